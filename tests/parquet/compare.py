"""The comparisons of run.sh: compare.py [--million] LLBATCH DIRECTORY."""

import base64
import datetime as dt
import decimal
import json
import math
import os
import resource
import subprocess
import sys
import time
import uuid
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

D = decimal.Decimal
MODEL = "meta-llama/Llama-3.2-3B-Instruct-Turbo"
BINARY, WORK = sys.argv[-2], Path(sys.argv[-1])
checks = 0


def check(what, condition, *more):
    global checks
    checks += 1
    if not condition:
        print(f"parquet: FAILED: {what}", *more, file=sys.stderr, sep="\n  ")
        sys.exit(1)


def llbatch(*args, code=0, stdin=None):
    done = subprocess.run([BINARY, *map(str, args)], cwd=WORK, text=True, capture_output=True, input=stdin)
    check(f"exit {code} of llbatch {' '.join(map(str, args))}", done.returncode == code, done.returncode, done.stderr)
    return done


def run(name, out, *more, code=0):
    flags = () if "--prompt" in more or "--endpoint" in more else ("--prompt", "{{ id }}")
    model = () if "-m" in more else ("-m", MODEL)
    return llbatch("run", name, *model, *flags, "--sandbox", "--fresh", "-q", "-o", out, *more, code=code)


def table():
    """Every kind of column that PyArrow writes and llbatch reads, with nulls and edges."""
    utc = dt.timezone.utc
    instants = [dt.datetime(2026, 11, 30, 13, 34, 7, 123456, utc), None, dt.datetime(1969, 12, 31, 23, 59, 59, 1, utc)]
    clocks = [dt.datetime(2000, 2, 29, 1, 2, 3), dt.datetime(9999, 12, 31, 23, 59, 59, 999999), None]
    person = pa.struct([("name", pa.string()), ("age", pa.int32()), ("tags", pa.list_(pa.string()))])
    columns = {
        "id": pa.array(["a", "b", "c"]),
        "text": pa.array(['quote " back \\ line\n', "", None]),
        "large": pa.array(["é本", None, "x" * 70_000], pa.large_string()),
        "label": pa.array(["yes", "no", None]).dictionary_encode(),
        "bytes": pa.array([b"plain", None, "ü".encode()], pa.binary()),
        "flag": pa.array([True, False, None]),
        "i8": pa.array([-128, 127, None], pa.int8()),
        "i16": pa.array([-32768, None, 32767], pa.int16()),
        "i32": pa.array([-(2**31), 2**31 - 1, None], pa.int32()),
        "i64": pa.array([-(2**63), 2**63 - 1, None], pa.int64()),
        "u8": pa.array([0, 255, None], pa.uint8()),
        "u32": pa.array([0, 2**32 - 1, None], pa.uint32()),
        "u64": pa.array([0, 2**64 - 1, None], pa.uint64()),
        "f32": pa.array([0.1, -1.5e-30, None], pa.float32()),
        "f64": pa.array([0.1, 1e300, -0.0], pa.float64()),
        "odd": pa.array([math.nan, math.inf, -math.inf], pa.float64()),
        "dec9": pa.array([D("1.50"), D("-0.05"), None], pa.decimal128(9, 2)),
        "dec38": pa.array([D("1" * 30 + ".12345678"), None, D("-0.00000001")], pa.decimal128(38, 8)),
        "date": pa.array([dt.date(2026, 11, 30), dt.date(9999, 12, 31), None], pa.date32()),
        "time": pa.array([dt.time(12, 34, 56, 789000), dt.time(0, 0), None], pa.time64("us")),
        "ms": pa.array(
            [v and v.replace(microsecond=v.microsecond // 1000 * 1000) for v in instants], pa.timestamp("ms", "UTC")),
        "us": pa.array(instants, pa.timestamp("us", "UTC")),
        "ns": pa.array(instants, pa.timestamp("ns", "UTC")),
        "local": pa.array(clocks, pa.timestamp("us")),
        "list": pa.array([["x", None, "y"], [], None], pa.list_(pa.string())),
        "vector": pa.array([[0.5, 0.1], [1.0, 2.0], None], pa.list_(pa.float32(), 2)),
        "deep": pa.array([[[1], []], [], None], pa.list_(pa.list_(pa.int64()))),
        "who": pa.array([{"name": "n", "age": 7, "tags": ["t"]}, {"name": None, "age": None, "tags": None}, None], person),
        "people": pa.array([[{"name": "p", "age": 1, "tags": []}], [], None], pa.list_(person)),
        "map": pa.array([[("k", 1.5), ("l", None)], [], None], pa.map_(pa.string(), pa.float64())),
    }
    return pa.table(columns)


def instant(value, utc):
    """As llbatch spells a point in time: no zeros at the end of a fraction."""
    text = value.strftime("%Y-%m-%dT%H:%M:%S") if value.year >= 1000 else value.isoformat(timespec="seconds")[:19]
    fraction = f".{value.microsecond:06}".rstrip("0").rstrip(".")
    return text + fraction + ("Z" if utc else "")


def spelled(value, ty):
    """A value of Python as the field that llbatch makes of it."""
    if value is None:
        return None
    if pa.types.is_dictionary(ty):
        return spelled(value, ty.value_type)
    if pa.types.is_decimal(ty):
        return f"{value:f}"
    if pa.types.is_timestamp(ty):
        return instant(value, ty.tz is not None)
    if pa.types.is_time(ty):
        return value.strftime("%H:%M:%S") + f".{value.microsecond:06}".rstrip("0").rstrip(".")
    if pa.types.is_date(ty):
        return value.isoformat()
    if pa.types.is_binary(ty):
        return value.decode()
    if pa.types.is_floating(ty) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if pa.types.is_map(ty):
        return {key: spelled(item, ty.item_type) for key, item in value}
    if pa.types.is_list(ty) or pa.types.is_fixed_size_list(ty) or pa.types.is_large_list(ty):
        return [spelled(item, ty.value_type) for item in value]
    if pa.types.is_struct(ty):
        return {field.name: spelled(value[field.name], field.type) for field in ty}
    return value


def same(ours, theirs, ty):
    if pa.types.is_float32(ty) and ours is not None and theirs is not None:
        return pa.scalar(ours, pa.float32()) == pa.scalar(theirs, pa.float32())
    if isinstance(ours, list) and isinstance(theirs, list) and hasattr(ty, "value_type"):
        return len(ours) == len(theirs) and all(same(a, b, ty.value_type) for a, b in zip(ours, theirs))
    return ours == theirs


FIXED = {
    "custom_id": "string", "model": "string", "content": "string", "finish_reason": "string", "prompt_tokens": "int64",
    "completion_tokens": "int64", "cost_usd": "decimal128(20, 9)", "attempts": "int32", "latency_ms": "int64", "error": "string",
}


def normal(ty):
    """A type as Parquet keeps it, without what only Arrow's own annotation in the file tells."""
    if pa.types.is_dictionary(ty) or pa.types.is_large_string(ty):
        return "string"
    return str(ty).replace("element: ", "item: ")


def inputs(name, original, how):
    """Flat JSON has each value as Python has it, and Parquet results have the values and types of the input."""
    run(name, "flat.jsonl", "--flat")
    rows = [json.loads(line) for line in (WORK / "flat.jsonl").read_text().splitlines()]
    check(f"{how}: number of rows", len(rows) == original.num_rows)
    for column in original.column_names:
        ty = original.schema.field(column).type
        for at, value in enumerate(original[column].to_pylist()):
            ours, theirs = rows[at][column], spelled(value, ty)
            check(f"{how}: {column}[{at}]", same(ours, theirs, ty), repr(ours)[:200], repr(theirs)[:200])
    run(name, "out.parquet")
    # As any reader sees the input: without Arrow's annotation in it.
    before = pq.read_table(WORK / name)
    after = pq.read_table(WORK / "out.parquet")
    check(f"{how}: columns", after.column_names[: len(before.column_names)] == before.column_names)
    for column in before.column_names:
        ours, theirs = after[column].to_pylist(), before[column].to_pylist()
        equal = all(a == b or (a != a and b != b) for a, b in zip(ours, theirs)) and len(ours) == len(theirs)
        check(f"{how}: {column} comes back", equal, str(ours)[:300], str(theirs)[:300])
    for column, ty in FIXED.items():
        check(f"{how}: type of {column}", str(after.schema.field(column).type) == ty, after.schema.field(column).type)
    meta = pq.ParquetFile(WORK / "out.parquet").metadata
    check(f"{how}: packed with zstd", meta.row_group(0).column(0).compression == "ZSTD")
    types = {c: t for c, t, *_ in duckdb.sql(f"describe from '{WORK / 'out.parquet'}'").fetchall()}
    wanted = {c: t for c, t, *_ in duckdb.sql(f"describe from '{WORK / name}'").fetchall()}
    for column, ty in wanted.items():
        check(f"{how}: DuckDB's type of {column}", types[column] == ty, types[column], ty)
    check(f"{how}: DuckDB's type of a cost", types["cost_usd"] == "DECIMAL(20,9)")
    ids = ", ".join(f'"{column}"' for column in wanted)
    differ = duckdb.sql(f"select count(*) from ((select {ids} from '{WORK / 'out.parquet'}') except all (select {ids} from '{WORK / name}'))")
    check(f"{how}: DuckDB finds the same rows", differ.fetchall()[0][0] == 0)


def pyarrow_inputs():
    original = table()
    kinds = [
        dict(compression=codec, data_page_version=version, use_dictionary=dictionary)
        for codec in ["none", "snappy", "gzip", "zstd"] for version in ["1.0", "2.0"] for dictionary in [True, False]
    ]
    kinds += [dict(compression="snappy", row_group_size=1), dict(version="1.0"), dict(use_compliant_nested_type=False),
              dict(write_page_checksum=True), dict(store_decimal_as_integer=True), dict(write_page_index=True)]
    for number, kind in enumerate(kinds):
        name = f"in-{number}.parquet"
        data = original
        if kind.get("version") == "1.0":
            data = original.drop_columns(["ns", "u32"])
        pq.write_table(data, WORK / name, **{"store_schema": False, **kind})
        inputs(name, data, f"PyArrow {kind}")
    plain = original.select(["id", "i32", "f32"])
    pq.write_table(plain, WORK / "split.parquet", column_encoding={"f32": "BYTE_STREAM_SPLIT", "i32": "DELTA_BINARY_PACKED", "id": "DELTA_BYTE_ARRAY"},
                   use_dictionary=False, store_schema=False)
    inputs("split.parquet", plain, "PyArrow with newer encodings")
    old = original.select(["id", "local"])
    old = old.set_column(1, "local", pa.array([dt.datetime(2000, 2, 29, 1, 2, 3, 4), None, dt.datetime(1950, 1, 1)], pa.timestamp("us")))
    pq.write_table(old, WORK / "int96.parquet", use_deprecated_int96_timestamps=True, store_schema=False)
    inputs("int96.parquet", old, "PyArrow with INT96")


def duckdb_inputs():
    database = duckdb.connect()
    database.execute("""create table t as select * from (values
        ('a', 1::tinyint, 2::hugeint, 1.25::decimal(18,4), '2026-11-30 13:34:07.5+00'::timestamptz, '2026-11-30'::date,
         [1, 2], {'a': 1, 'b': 'x'}, map {'k': 1}, '{"j": [1, 2]}'::json, 'happy'::enum_t, 'd2c5e0a6-3cf3-4f0b-8f9b-0123456789ab'::uuid, '12:34:56.5'::time),
        ('b', null, null, null, null, null, [], null, null, null, null, null, null)
        ) v(id, tiny, huge, price, moment, day, list, struct, map, doc, mood, uuid, clock)""".replace("create table", "create type enum_t as enum ('happy', 'sad'); create table", 1))
    for codec in ["uncompressed", "snappy", "gzip", "zstd"]:
        for version in ["V1", "V2"]:
            name = f"duck-{codec}-{version}.parquet"
            database.execute(f"copy t to '{WORK / name}' (format parquet, compression {codec}, parquet_version {version})")
            run(name, "flat.jsonl", "--flat")
            first, second = [json.loads(line) for line in (WORK / "flat.jsonl").read_text().splitlines()]
            expected = {"tiny": 1, "huge": 2.0, "price": "1.2500", "moment": "2026-11-30T13:34:07.5Z", "day": "2026-11-30", "list": [1, 2],
                        "struct": {"a": 1, "b": "x"}, "map": {"k": 1}, "mood": "happy", "clock": "12:34:56.5",
                        "uuid": "d2c5e0a6-3cf3-4f0b-8f9b-0123456789ab", "doc": '{"j": [1, 2]}'}
            for column, value in expected.items():
                check(f"DuckDB {codec} {version}: {column}", first[column] == value, first[column])
                check(f"DuckDB {codec} {version}: null {column}", second[column] == ([] if column == "list" else None), second[column])
            run(name, "out.parquet")
            differ = database.sql(f"select count(*) from ((select * from '{WORK / name}') except all (select id, tiny, huge, price, moment, day, list, struct, map, doc, mood, uuid, clock from '{WORK / 'out.parquet'}'))")
            check(f"DuckDB {codec} {version}: the same rows come back", differ.fetchall()[0][0] == 0)


def refused():
    original = table().select(["id", "text", "i32"])
    for codec in ["lz4", "brotli"]:
        pq.write_table(original, WORK / f"{codec}.parquet", compression=codec)
        done = run(f"{codec}.parquet", "no.jsonl", code=65)
        check(f"{codec} is named", codec in done.stderr and "snappy, gzip and zstd" in done.stderr, done.stderr)
    pq.write_table(pa.table({"id": ["a"], "image": pa.array([b"\x89PNG\xff"], pa.binary())}), WORK / "binary.parquet")
    done = run("binary.parquet", "no.jsonl", code=65)
    check("a binary column is named", "`image` holds binary data" in done.stderr, done.stderr)
    whole = (WORK / "in-0.parquet").read_bytes()
    for keep in [0, 3, 11, len(whole) // 2, len(whole) - 1]:
        (WORK / "cut.parquet").write_bytes(whole[:keep])
        run("cut.parquet", "no.jsonl", code=65)
    encrypted()


def encrypted():
    try:
        import pyarrow.parquet.encryption as pe
    except ImportError:
        return

    class Keys(pe.KmsClient):
        def __init__(self, _config):
            super().__init__()

        def wrap_key(self, key, _name):
            return base64.b64encode(key)

        def unwrap_key(self, key, _name):
            return base64.b64decode(key)

    for plaintext in [False, True]:
        config = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": ["text"]}, plaintext_footer=plaintext)
        properties = pe.CryptoFactory(Keys).file_encryption_properties(pe.KmsConnectionConfig(), config)
        with pq.ParquetWriter(WORK / "secret.parquet", table().schema, encryption_properties=properties) as writer:
            writer.write_table(table())
        done = run("secret.parquet", "no.jsonl", code=65)
        check(f"an encrypted file is refused (plain footer: {plaintext})", "encrypted" in done.stderr, done.stderr)


def results():
    (WORK / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [
        {"id": "a", "prompt": "x", "n": 1, "score": 0.5, "good": True, "tags": ["t"], "mixed": 1},
        {"id": "b", "prompt": "y", "n": None, "score": 2, "good": None, "mixed": "two"},
        {"id": "c", "prompt": "z", "n": -3, "extra": {"k": None}},
    ]))
    run("in.jsonl", "typed.parquet", "--prompt", "{{ id }}", "--timing", "--usage-columns")
    found = pq.read_table(WORK / "typed.parquet")
    types = {name: str(found.schema.field(name).type) for name in found.column_names}
    for column, ty in {"n": "int64", "score": "double", "good": "bool", "tags": "string", "mixed": "string", "extra": "string", "cached_tokens": "int64", "tokens_per_s": "double", **FIXED}.items():
        check(f"from JSONL: type of {column}", types[column] == ty, types[column])
    check("from JSONL: values", found["n"].to_pylist() == [1, None, -3] and found["score"].to_pylist() == [0.5, 2.0, None]
          and found["mixed"].to_pylist() == ["1", "two", None] and found["tags"].to_pylist() == ['["t"]', None, None])
    run("in.jsonl", "flat.jsonl", "--prompt", "{{ id }}", "--flat")
    flat = [json.loads(line, parse_float=D) for line in (WORK / "flat.jsonl").read_text().splitlines()]
    for column in ["content", "finish_reason", "prompt_tokens", "completion_tokens", "attempts"]:
        check(f"{column} is that of flat JSON", found[column].to_pylist() == [row[column] for row in flat])
    check("cost_usd is exact", all(D(str(cost)) == D(row["cost_usd"]) for cost, row in zip(found["cost_usd"].to_pylist(), flat)))

    (WORK / "vec.jsonl").write_text("".join(json.dumps({"id": f"v{n}", "input": f"text {n}"}) + "\n" for n in range(20)))
    run("vec.jsonl", "vec.parquet", "--endpoint", "embeddings", "-m", "BAAI/bge-base-en-v1.5")
    run("vec.jsonl", "vec-flat.jsonl", "--endpoint", "embeddings", "--flat", "-m", "BAAI/bge-base-en-v1.5")
    vectors = pq.read_table(WORK / "vec.parquet")
    check("vectors are lists of float32", str(vectors.schema.field("content").type).startswith("list<") and "float" in str(vectors.schema.field("content").type))
    lines = [json.loads(line)["content"] for line in (WORK / "vec-flat.jsonl").read_text().splitlines()]
    check("vectors are those of JSON", vectors["content"].to_pylist() == pa.array(lines, pa.list_(pa.float32())).to_pylist())

    for shard in [1, 2, 3]:
        run("in-0.parquet", f"part-{shard}.parquet", "--shard", f"{shard}/3")
    run("in-0.parquet", "whole.parquet")
    llbatch("merge", "in-0.parquet", "part-3.parquet", "part-1.parquet", "part-2.parquet", "-o", "merged.parquet")
    whole, merged = pq.read_table(WORK / "whole.parquet"), pq.read_table(WORK / "merged.parquet")
    check("merged parts have the schema of the whole", whole.schema.equals(merged.schema), whole.schema, merged.schema)
    for column in whole.column_names:
        if column not in ["latency_ms", "odd"]:
            check(f"merged parts are the whole: {column}", whole[column].to_pylist() == merged[column].to_pylist())
    report = json.loads(llbatch("report", "merged.parquet", "--json").stdout)
    check("a report of Parquet results", report["rows"]["succeeded"] == 3, report["rows"])
    run("merged.parquet", "again.parquet", "--prefix", "two_")
    check("results are an input", pq.read_table(WORK / "again.parquet").column_names[-1] == "two_error")


def million():
    rows = 1_000_000
    ids = pa.array([f"r{n}" for n in range(rows)])
    texts = pa.array([f"Review {n}: it does what it says, and the handle stays cool even after {n % 97} minutes." for n in range(rows)])
    data = pa.table({"id": ids, "text": texts, "stars": pa.array([n % 5 for n in range(rows)], pa.int64()), "price": pa.array([n / 7 for n in range(rows)])})
    pq.write_table(data, WORK / "million.parquet", row_group_size=rows)
    import pyarrow.csv
    pyarrow.csv.write_csv(data, WORK / "million.csv")
    del data, ids, texts
    print(f"million rows: Parquet {os.path.getsize(WORK / 'million.parquet') >> 20} MB in one row group, CSV {os.path.getsize(WORK / 'million.csv') >> 20} MB")
    for name in ["million.csv", "million.parquet"]:
        start = time.monotonic()
        process = subprocess.Popen([BINARY, "check", name, "-m", MODEL, "--prompt", "{{ text }} {{ stars }}", "--max-tokens", "9", "--json"], cwd=WORK, stdout=subprocess.PIPE)
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        took = time.monotonic() - start
        check(f"check of {name}", os.waitstatus_to_exitcode(status) == 0 and json.loads(out)["rows"] == rows)
        print(f"  check {name}: {rows / took:,.0f} rows/s, {usage.ru_utime + usage.ru_stime:.1f} s of CPU, peak {usage.ru_maxrss >> 10} MB")
        check(f"memory of {name} is bounded", name.endswith(".csv") or usage.ru_maxrss < 300 << 10)
    for name, out in [("million.csv", "m.csv"), ("million.parquet", "m.parquet")]:
        start = time.monotonic()
        process = subprocess.Popen([BINARY, "run", name, "-m", MODEL, "--prompt", "{{ text }}", "--max-tokens", "9", "--sandbox", "--fresh", "-q", "--limit", "200000", "-o", out], cwd=WORK)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.monotonic() - start
        check(f"run of {name}", os.waitstatus_to_exitcode(status) == 0)
        print(f"  run {name} -o {out}, 200,000 rows with the sandbox in the process: {200_000 / took:,.0f} rows/s, {usage.ru_utime + usage.ru_stime:.1f} s of CPU, peak {usage.ru_maxrss >> 10} MB")
    check("a long result reads back", pq.read_metadata(WORK / "m.parquet").num_rows == 200_000)


pyarrow_inputs()
duckdb_inputs()
refused()
results()
if "--million" in sys.argv:
    million()
print(f"parquet: {checks} comparisons hold (PyArrow {pa.__version__}, DuckDB {duckdb.__version__})")
