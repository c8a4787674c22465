#!/usr/bin/env python3
"""Packs the vocabulary that src/tokens estimates with: `pack.py WORK`, which writes src/tokens/vocabulary.zst.

All of cl100k, in order, then the first so many tokens of o200k that are written in a script which cl100k splits too
finely. Takes both from crates, under WORK. Needs cargo, zstd and python3; a minute.
The packed table: the 256 tokens of one byte, then each longer one behind a byte 255, which none of them holds.
"""

import base64
import glob
import os
import subprocess
import sys

EXTRA = 16_000
HERE = os.path.dirname(os.path.abspath(__file__))


def scaled(char):
    """Whether src/tokens/scripts.rs scales what is written with this character."""
    return any(first <= ord(char) <= last for first, last in (
        (0x102, 0x103), (0x110, 0x111), (0x11E, 0x11F), (0x128, 0x129), (0x130, 0x131), (0x15E, 0x15F), (0x168, 0x169),
        (0x1A0, 0x1A1), (0x1AF, 0x1B0), (0x1EA0, 0x1EFF),  # Turkish, Vietnamese
        (0x370, 0x3FF), (0x1F00, 0x1FFF),  # Greek
        (0x400, 0x52F),  # Cyrillic
        (0x600, 0x77F), (0xFB50, 0xFDFF),  # Arabic
        (0x900, 0x97F), (0xE00, 0xE7F),  # Devanagari, Thai
        (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xAC00, 0xD7FF)))  # Kana, Han, Hangul


def ranked(path):
    with open(path, "rb") as file:
        return [base64.b64decode(line.split()[0]) for line in file if line.strip()]


def wanted(token):
    try:
        return any(map(scaled, token.decode()))
    except UnicodeDecodeError:
        return False


def main(work):
    path = f"{work}/vocabularies"
    if not os.path.isdir(path):
        os.makedirs(f"{path}/src")
        open(f"{path}/src/lib.rs", "w").close()
        with open(f"{path}/Cargo.toml", "w") as manifest:
            manifest.write('[package]\nname = "texts"\nversion = "0.1.0"\nedition = "2024"\n[dependencies]\n'
                           'splintr-vocab-cl100k = "=1.0.0"\nsplintr-vocab-o200k = "=1.0.0"\n')
        subprocess.run(["cargo", "vendor", "vendored"], cwd=path, check=True, stdout=subprocess.DEVNULL)
    first, = glob.glob(f"{path}/vendored/*/vocabs/cl100k_base.tiktoken")
    second, = glob.glob(f"{path}/vendored/*/vocabs/o200k_base.tiktoken")
    tokens = ranked(first)
    known = set(tokens)
    tokens += [token for token in ranked(second) if token not in known and wanted(token)][:EXTRA]
    assert all(len(token) == 1 for token in tokens[:256]) and not any(b"\xff" in token for token in tokens[256:])
    table = b"".join(tokens[:256]) + b"".join(b"\xff" + token for token in tokens[256:])
    packed = subprocess.run(["zstd", "--ultra", "-22", "--no-check", "-c"], input=table, stdout=subprocess.PIPE, check=True).stdout
    with open(f"{HERE}/../../src/tokens/vocabulary.zst", "wb") as file:
        file.write(packed)
    print(f"{len(tokens)} tokens, {len(table)} bytes, packed {len(packed)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(os.path.abspath(sys.argv[1]))
