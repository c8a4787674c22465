#!/usr/bin/env python3
"""Holds llbatch's verdicts on JSON schemas against Python's `jsonschema`, on the official JSON-Schema-Test-Suite.

    tests/rules/schema_suite.py [--verdicts FILE] [--keep DIR]

The cases are the required ones of draft 2020-12, as the source package of `jsonschema` carries them. The script fetches that
package and its dependencies from the package index, and builds the example `verdicts` unless it is named. llbatch looks
nothing up, so a schema that refers to another document must be refused; every other one must be accepted, and both must
judge every answer as the suite says. Ends with 1 if they do not.
"""

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "jsonschema==4.23.0"
DRAFT = "tests/draft2020-12"

JUDGE = """
import json, sys
from jsonschema import Draft202012Validator
for line in sys.stdin:
    case = json.loads(line)
    try:
        validator = Draft202012Validator(case["schema"])
        print(json.dumps({"valid": [validator.is_valid(answer) for answer in case["answers"]]}))
    except Exception as error:
        print(json.dumps({"refused": type(error).__name__}))
"""


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, text=True, **more)


def groups(source):
    """(name, schema, [(answer, valid)]) of each group of required cases."""
    for path in sorted((source / "json" / DRAFT).glob("*.json")):
        for group in json.loads(path.read_text()):
            tests = [(test["data"], test["valid"]) for test in group["tests"]]
            yield f"{path.stem}: {group['description']}", group["schema"], tests


def fetched(place):
    """A Python with `jsonschema`, and the unpacked source package."""
    python = place / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(place / "venv", with_pip=True)
        run(python, "-m", "pip", "install", "-q", PACKAGE)
        run(python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", place, PACKAGE)
        with tarfile.open(next(place.glob("jsonschema-*.tar.gz"))) as archive:
            archive.extractall(place, filter="data")
    return python, next(path for path in place.glob("jsonschema-*") if path.is_dir())


def judged(command, cases):
    lines = "".join(json.dumps({"schema": schema, "answers": [data for data, _ in tests]}) + "\n" for _, schema, tests in cases)
    out = run(*command, input=lines, stdout=subprocess.PIPE).stdout
    return [json.loads(line) for line in out.splitlines()]


def compare(cases, ours, theirs):
    answers, elsewhere, wrong, apart = 0, [], [], []
    for (name, _, tests), own, other in zip(cases, ours, theirs, strict=True):
        expected = [valid for _, valid in tests]
        if "refused" in own:
            # Python finds the reference only when an answer needs it.
            if "something outside of itself" in own["refused"] or "`$schema` is unknown" in own["refused"]:
                elsewhere.append(name)
            else:
                wrong.append(f"{name}: refused: {own['refused']}")
            continue
        answers += len(expected)
        if own["valid"] != expected:
            wrong.append(f"{name}: {own['valid']}, the suite says {expected}")
        if own != other:
            apart.append(f"{name}: {own} and {other}")
    print(f"{len(cases)} schemas, of which {len(elsewhere)} refer to other documents and are refused; {answers} answers")
    for title, list_ in (("llbatch against the suite", wrong), ("llbatch against Python's jsonschema", apart)):
        print(f"{title}: {len(list_)} schemas differ")
        for line in list_:
            print(f"  {line}")
    return not wrong and not apart


def main():
    parser = argparse.ArgumentParser(prog="tests/rules/schema_suite.py")
    parser.add_argument("--verdicts", type=Path, help="the example `verdicts`, built already")
    parser.add_argument("--keep", type=Path, help="fetch into this directory, and use what is there")
    args = parser.parse_args()
    verdicts = args.verdicts
    if verdicts is None:
        run("cargo", "build", "--locked", "--example", "verdicts", cwd=ROOT)
        target = json.loads(run("cargo", "metadata", "--no-deps", "--format-version", "1", cwd=ROOT, stdout=subprocess.PIPE).stdout)
        verdicts = Path(target["target_directory"]) / "debug/examples/verdicts"
    with tempfile.TemporaryDirectory() as scratch:
        place = args.keep or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        python, source = fetched(place)
        cases = list(groups(source))
        return 0 if compare(cases, judged([verdicts], cases), judged([python, "-c", JUDGE], cases)) else 1


if __name__ == "__main__":
    sys.exit(main())
