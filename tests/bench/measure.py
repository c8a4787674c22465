#!/usr/bin/env python3
"""Helper of the benchmark scripts (standard library only).

  measure.py input ROWS FILE              batch lines of 400 to 2,000 bytes, the same every time
  measure.py long-input ROWS FILE         the same with prompts of about 106 KB
  measure.py batch-input ROWS FILE        batch lines of about 800 bytes for three models in turn, the same every time
  measure.py check-input ROWS FILE        batch lines of about 1,000 bytes: prose, code, JSON, ten languages, as found
  measure.py check-csv FILE CSV           the rows of such a file as CSV: id, model, prompt, max_tokens
  measure.py free-port                    a free port on loopback
  measure.py run LOG CMD...               runs CMD (stdout and stderr to LOG); prints: exit wall_s cpu_s peak_kib written_kib
  measure.py startup TIMES CMD...         median CPU time of CMD in milliseconds
  measure.py first-request PORT LOG CMD.. seconds from CMD's start to the first POST on PORT; CMD is killed then
  measure.py get FILE|URL KEY...          values out of a JSON document: rows.succeeded, jobs.0.rows.total
  measure.py median                       median of the numbers on stdin
  measure.py table                        the tab-separated lines on stdin as an aligned table
"""

# A child's peak memory is never reported as less than its parent's, so this stays small: what only one of the commands
# needs is imported there.
import os
import signal
import sys
import time

WORDS = "alpha beta gamma delta river stone water mountain letter table number question answer summary of and the".split()
MODEL = "meta-llama/Llama-3.2-3B-Instruct-Turbo"
BATCH_MODELS = [MODEL, "meta-llama/Llama-3.3-70B-Instruct-Turbo", "Qwen/Qwen2.5-7B-Instruct-Turbo"]
# The longest wait for the first request.
PATIENCE_S = 300


def make_input(rows, path):
    """Deterministic: one seed, lengths evenly spread, the text cut from one long run of words."""
    import random

    rng = random.Random(20260101)
    pool = " ".join(rng.choices(WORDS, k=200_000))
    with open(path, "w", encoding="ascii") as out:
        for row in range(rows):
            head = f'{{"custom_id": "row-{row:07}", "body": {{"model": "{MODEL}", "messages": [{{"role": "user", "content": "'
            tail = '"}], "max_tokens": 64, "temperature": 0.7}}\n'
            text = rng.randint(400, 2000) - len(head) - len(tail)
            at = rng.randrange(len(pool) - 2000)
            out.write(head + pool[at : at + text] + tail)


def make_long_input(rows, path):
    """As above, with prompts of the length of a document."""
    import random

    rng = random.Random(20261129)
    pool = " ".join(rng.choices(WORDS, k=200_000))
    with open(path, "w", encoding="ascii") as out:
        for row in range(rows):
            at = rng.randrange(len(pool) - 106_000)
            text = pool[at : at + 106_000]
            out.write(
                f'{{"custom_id": "row-{row:07}", "body": {{"model": "{MODEL}", '
                f'"messages": [{{"role": "user", "content": "{text}"}}], "max_tokens": 64}}}}\n'
            )


def make_batch_input(rows, path):
    """As above, of nearly one length."""
    import random

    rng = random.Random(20261101)
    pool = " ".join(rng.choices(WORDS, k=200_000))
    with open(path, "w", encoding="ascii") as out:
        for row in range(rows):
            model = BATCH_MODELS[row % len(BATCH_MODELS)]
            head = f'{{"custom_id": "row-{row:07}", "body": {{"model": "{model}", "messages": [{{"role": "user", "content": "'
            tail = '"}], "max_tokens": 64, "temperature": 0.7}}\n'
            text = rng.randint(750, 850) - len(head) - len(tail)
            at = rng.randrange(len(pool) - 1000)
            out.write(head + pool[at : at + text] + tail)


# What check-input is made of: a language, its share of the rows in percent, its words.
ENGLISH = """the a of and to in that it with for as on by from at was were is are be this which or had not but what when
where who would there been have has their more will if no out so up said about into than them can only other time new some
could these two may first then do any like my now over such our man even most made after also did many before must through
years way well should because each people those how too little state good very make world still own see men work long
here between both life being under never day same another know while last might great since against go right
question answer summary customer delivery invoice refund product review quality service manager contract meeting report
quarter budget revenue estimate shipment warehouse supplier policy paragraph document sentence translation classify
explain describe compare temperature pressure velocity experiment hypothesis evidence population government election
hospital treatment patient diagnosis medicine therapy recovery university research professor student lecture library
mountain river island harbour forest village bridge railway station journey passenger engineer machine computer network
software interface database memory processor keyboard security password account transfer payment currency interest
don't isn't we're it's Monday Tuesday Germany France Together London Anna Robert Chicago Dr. e.g. 2026 1,250 42% $19.99""".split()
LANGUAGES = [
    (3, "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch Größe Straße Übersetzung "
     "Rechnung Kündigungsfrist Lieferung Bestellung können müssen schön früher Zusammenfassung"),
    (3, "le la les de des et en un une que qui dans pour est été à où déjà français réponse très même être après qualité "
     "résumé numéro société l'entreprise d'abord c'est aujourd'hui facture livraison"),
    (2, "el la de que y en un los se del las por con no una su para es al lo como más año señor niño también está será "
     "respuesta pregunta resumen información España"),
    (2, "και το να της η που του με για στο από τα είναι στην μια των σε ένα οι δεν ερώτηση απάντηση Ελλάδα περίληψη κείμενο"),
    (2, "и в не на что я с он а как это по но они к у ты из мы за вы так же от сказать этот который мочь человек вопрос ответ"),
    (2, "في من على أن إلى عن مع هذا التي كان ما هذه لا الذي بين ذلك كل بعد قبل السؤال الجواب ملخص النص المدينة"),
    (2, "के में की है यह और से को का पर एक नहीं था लिए किया कि इस हो जो ने प्रश्न उत्तर सारांश भारत लोग समय"),
    (1, "ที่ และ ใน เป็น ของ การ มี ได้ ว่า จะ ไม่ ให้ คน ประเทศไทย คำถาม คำตอบ สรุป ข้อความ"),
    (2, "的 一 是 不 了 人 我 在 有 他 这 中 大 来 上 国 问题 回答 总结 经济 发展 社会 技术 学习 语言 。 ，"),
    (1, "の に は を た が で て と し れ さ ある いる する 質問 回答 要約 日本 東京 時間 、 。"),
]


def check_units(rng):
    """(share in percent, texts as they stand in JSON) of every kind of text; a row is a run of them."""
    import json

    escaped = lambda texts, ascii=False: [json.dumps(text, ensure_ascii=ascii)[1:-1] for text in texts]

    def sentences(words, count):
        for _ in range(count):
            body = rng.choices(words, k=rng.randrange(6, 22))
            if len(body) > 12:
                body[rng.randrange(4, 10)] += ","
            yield " ".join(body).capitalize() + rng.choice([". ", ". ", ". ", "? ", ".\n\n"])

    names = [word for word in ENGLISH if word.isalpha() and len(word) > 3]

    def code(count):
        for _ in range(count):
            a, b, c, d = rng.choices(names, k=4)
            n = rng.randrange(1000)
            yield rng.choice([
                f"    for {a} in {b}.{c}():\n        if {a}.{d} > {n}:\n            {b}_{d}.append({a})\n",
                f"def {a}_{b}({c}, {d}=None):\n    \"\"\"{c} of {d}.\"\"\"\n    return {c}[{n}:] + [{d!r}]\n\n",
                f"\tif err := {a}.{b.title()}(ctx, &{c}{{{d.title()}: {n}}}); err != nil {{\n\t\treturn fmt.Errorf(\"{a}: %w\", err)\n\t}}\n",
                f"const {a}{b.title()} = await fetch(`/api/{c}/${{{d}.id}}`, {{ method: 'POST' }}); // {n}\n",
                f"SELECT {a}.id, COUNT(*) AS {b} FROM {c} LEFT JOIN {a} ON {a}.{d}_id = {c}.id WHERE {d} >= {n} GROUP BY 1;\n",
            ])

    def records(count):
        for _ in range(count):
            a, b, c = rng.choices(names, k=3)
            record = {"id": rng.randrange(10**6), "name": f"{a} {b}", "ok": rng.random() < 0.5, "tags": [b, c],
                      "at": f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:00:00Z",
                      "price": round(rng.random() * 100, 2), "note": None}
            yield json.dumps(record) + "\n"

    yield 45, escaped(sentences(ENGLISH, 8000))
    yield 20, escaped(code(6000))
    yield 15, escaped(records(6000))
    # Half of what is not English comes as Python's json.dumps writes it.
    for share, words in LANGUAGES:
        texts = list(sentences(words.split(), 1500))
        yield share / 2, escaped(texts)
        yield share / 2, escaped(texts, ascii=True)


def make_check_input(rows, path):
    """Rows of 600 to 1,400 bytes; the kinds of text in shares, not in turn."""
    import bisect
    import itertools
    import random

    rng = random.Random(20261123)
    kinds = []
    for share, texts in check_units(rng):
        sizes = [len(text.encode()) for text in texts]
        kinds.append((share, [text.encode() for text in texts], list(itertools.accumulate(sizes, initial=0))))
    shares = [kind[0] for kind in kinds]
    with open(path, "wb") as out:
        for start in range(0, rows, 10_000):
            block = []
            for row, (_, texts, ends) in enumerate(rng.choices(kinds, shares, k=min(10_000, rows - start)), start + 1):
                model = BATCH_MODELS[rng.randrange(3)]
                head = (f'{{"custom_id": "doc-{row:07}", "body": {{"model": "{model}", "messages": [{{"role": "system", '
                        f'"content": "Answer in one sentence, in the language of the text."}}, {{"role": "user", "content": "')
                tail = f'"}}], "max_tokens": {rng.choice((16, 64, 256))}, "temperature": 0.2}}}}\n'
                size = rng.randint(600, 1400) - len(head) - len(tail)
                first = rng.randrange(len(texts) - 60)
                last = min(bisect.bisect_left(ends, ends[first] + size, first + 1), len(texts))
                block += [head.encode(), *texts[first:last], tail.encode()]
            out.write(b"".join(block))


def make_check_csv(source, path):
    import csv
    import json

    with open(source, encoding="utf-8") as rows, open(path, "w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(["id", "model", "prompt", "max_tokens"])
        for line in rows:
            row = json.loads(line)
            body = row["body"]
            table.writerow([row["custom_id"], body["model"], body["messages"][-1]["content"], body["max_tokens"]])


def free_port():
    import random
    import socket

    # Below the ports that systems give to clients: what is free now is still free when a slow server takes it.
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        print(port)
        return


def spawn(argv, log):
    """Starts a command with its output in a file; it is killed when this process is told to end."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)

    def end(*_):
        os.kill(pid, signal.SIGKILL)
        os._exit(143)

    signal.signal(signal.SIGTERM, end)
    return pid


def run(log, argv):
    start = time.monotonic()
    pid = spawn(argv, log)
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - start
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{os.waitstatus_to_exitcode(status)} {wall:.4f} {cpu:.4f} {usage.ru_maxrss} {usage.ru_oublock // 2}")


def startup(times, argv):
    import statistics

    cpu = []
    for _ in range(times):
        pid = spawn(argv, os.devnull)
        _, status, usage = os.wait4(pid, 0)
        if status != 0:
            sys.exit(f"{' '.join(argv)} failed")
        cpu.append((usage.ru_utime + usage.ru_stime) * 1000)
    print(f"{statistics.median(cpu):.2f}")


def first_request(port, log, argv):
    import socket

    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    # The child's end is noticed at least this often.
    listener.settimeout(0.5)
    start = time.monotonic()
    pid = spawn(argv, log)
    seen = None
    while seen is None and time.monotonic() - start < PATIENCE_S:
        if os.waitpid(pid, os.WNOHANG)[0]:
            sys.exit(f"the command ended before it sent anything: see {log}")
        try:
            peer, _ = listener.accept()
        except TimeoutError:
            continue
        with peer:
            peer.settimeout(10)
            # A connection alone is no request.
            if peer.recv(4) == b"POST":
                seen = time.monotonic() - start
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if seen is None:
        sys.exit("no request came")
    print(f"{seen:.3f}")


def get(source, keys):
    import json
    import urllib.request

    with urllib.request.urlopen(source) if source.startswith("http://") else open(source, "rb") as file:
        document = json.load(file)
    values = []
    for key in keys:
        value = document
        for part in key.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        values.append(str(value))
    print(*values)


def table(lines):
    rows = [line.rstrip("\n").split("\t") for line in lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        # The first column is words, the others are read by their ends.
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def main():
    match sys.argv[1:]:
        case ["input", rows, path]:
            make_input(int(rows), path)
        case ["long-input", rows, path]:
            make_long_input(int(rows), path)
        case ["batch-input", rows, path]:
            make_batch_input(int(rows), path)
        case ["check-input", rows, path]:
            make_check_input(int(rows), path)
        case ["check-csv", source, path]:
            make_check_csv(source, path)
        case ["free-port"]:
            free_port()
        case ["run", log, *argv] if argv:
            run(log, argv)
        case ["startup", times, *argv] if argv:
            startup(int(times), argv)
        case ["first-request", port, log, *argv] if argv:
            first_request(int(port), log, argv)
        case ["get", source, *keys] if keys:
            get(source, keys)
        case ["median"]:
            import statistics

            print(statistics.median(float(line) for line in sys.stdin if line.strip()))
        case ["table"]:
            table(sys.stdin)
        case _:
            sys.exit(__doc__)


main()
