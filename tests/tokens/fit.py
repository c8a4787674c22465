#!/usr/bin/env python3
"""Fits the weights of src/tokens/scripts.rs: `fit.py WORK`, after gather.py and a run of measure.sh. Needs numpy, scipy.

Least squares of the relative error over the samples of half 0, each source of a class weighing the same; no weight is
below zero. Prints the table.
"""

import collections
import json
import sys

import numpy
from scipy.optimize import nnls


def main(work):
    samples = [json.loads(line) for line in open(f"{work}/samples.jsonl", encoding="utf-8")]
    tallies = [json.loads(line) for line in open(f"{work}/tallies.jsonl", encoding="utf-8")]
    counts = collections.Counter((one["class"], one["source"]) for one in samples)
    rows, goals = [], []
    for sample, tally in zip(samples, tallies, strict=True):
        if sample["half"] != 0:
            continue
        plain, scripts = tally[0][1], numpy.array(tally[1:], dtype=float).ravel()
        weight = counts[sample["class"], sample["source"]] ** -0.5 / sample["tokens"]
        rows.append(scripts * weight)
        goals.append((sample["tokens"] - plain) * weight)
    weights, _ = nnls(numpy.array(rows), numpy.array(goals))
    for chars, tokens in [(0.0, 1.0), *weights.reshape(-1, 2)]:
        print(f"    ({chars:.3f}, {tokens:.3f}),")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
