"""The sandbox as Together's own SDK (together==3.1.1) and `tg` see it. Usage: run.py BASE_URL TG WORKDIR"""

import asyncio
import base64
import hashlib
import json
import os
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import together

URL, TG, WORK = sys.argv[1], sys.argv[2], Path(sys.argv[3])
# The SDK puts /v1 into each path itself.
BASE = URL.removesuffix("/v1")
MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
KEY = "interop-key"
LLBATCH = os.environ.get("INTEROP_LLBATCH")
passed = 0
servers = []


def server(*args):
    """The base URL of another sandbox."""
    process = subprocess.Popen(
        [LLBATCH, "--state-dir", str(WORK / "state"), "serve", *args],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    servers.append(process)
    return process.stdout.readline().strip().removesuffix("/v1")


def check(name, condition, shown=""):
    """One line per fact; the first that does not hold ends the run."""
    global passed
    if not condition:
        print(f"FAILED  {name}: {shown!r}")
        sys.exit(1)
    passed += 1
    print(f"ok      {name}")


def fails(name, kind, call):
    try:
        result = call()
    except kind as error:
        check(name, True)
        return error
    check(name, False, result)


def rows(name, count, model=MODEL):
    path = WORK / name
    with path.open("w") as out:
        for i in range(1, count + 1):
            body = {"model": model, "messages": [{"role": "user", "content": f"{name}: say {i}"}]}
            out.write(json.dumps({"custom_id": f"row-{i}", "body": body}) + "\n")
    return path


def ended(client, job_id, limit=30):
    begun = time.monotonic()
    while True:
        job = client.batches.retrieve(job_id)
        if job.status in ("COMPLETED", "FAILED", "EXPIRED", "CANCELLED"):
            return job
        if time.monotonic() - begun > limit:
            check(f"{job_id} ends within {limit} s", False, job)
        time.sleep(0.2)


def answers(raw):
    lines = [json.loads(line) for line in raw.decode().splitlines()]
    return {line["custom_id"]: line for line in lines}


def tg(*args, code=0, text=False, base=BASE):
    """Runs the CLI; its JSON, or its standard output."""
    env = dict(os.environ, TOGETHER_API_KEY=KEY, TOGETHER_BASE_URL=base, NO_COLOR="1", CI="1")
    mode = ["--no-json"] if text else ["--json"]
    done = subprocess.run(
        [TG, *args, *mode, "--non-interactive"], env=env, cwd=WORK, capture_output=True, text=True, timeout=60
    )
    check(f"tg {' '.join(args[:2])} ends with {code}", done.returncode == code, (done.stdout, done.stderr))
    return done.stdout if text else json.loads(done.stdout or "null")


def inference(client):
    messages = [{"role": "user", "content": "Which lamp is this?"}]
    answer = client.chat.completions.create(model=MODEL, messages=messages)
    content = answer.choices[0].message.content
    check("chat answers", content.startswith("["), content)
    check("chat usage adds up", answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens)
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=messages)
    check("the same request gives the same bytes", raw.read() == client.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages).read())
    cut = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=3)
    check("max_tokens cuts", cut.choices[0].finish_reason == "length", cut)
    schema = {"type": "object", "properties": {"colour": {"type": "string"}, "count": {"type": "integer"}}}
    shaped = client.chat.completions.create(
        model=MODEL,
        messages=messages,
        response_format={"type": "json_schema", "json_schema": {"name": "lamp", "schema": schema}},
    )
    check("a schema is met", set(json.loads(shaped.choices[0].message.content)) == {"colour", "count"})
    text = client.completions.create(model=MODEL, prompt="Once")
    check("completions answer", bool(text.choices[0].text), text)
    vectors = client.embeddings.create(model="intfloat/multilingual-e5-large-instruct", input=["a", "b"])
    check("embeddings answer", len(vectors.data) == 2, vectors)
    documents = ["a lamp", {"title": "a river"}, "a window"]
    ranks = client.rerank.create(
        model="Salesforce/Llama-Rank-v1", query="Which one shines?", documents=documents, top_n=2, return_documents=True)
    check("rerank gives the best documents first", len(ranks.results) == 2 and ranks.object == "rerank"
          and ranks.results[0].relevance_score >= ranks.results[1].relevance_score, ranks)
    check("rerank repeats the documents", all(rank.document.text for rank in ranks.results), ranks)
    check("rerank has a usage", ranks.usage.prompt_tokens == ranks.usage.total_tokens > 0, ranks)
    for form in ("base64", "url"):
        images = client.images.generate(
            model="black-forest-labs/FLUX.1-schnell", prompt="a lamp", n=2, width=256, height=256, steps=4,
            response_format=form, output_format="png")
        check(f"images come as {form}", [image.index for image in images.data] == [0, 1] and images.object == "list", images)
        if form == "base64":
            inline = [base64.b64decode(image.b64_json) for image in images.data]
            check("an image is a PNG", all(image.startswith(b"\x89PNG") for image in inline))
        else:
            fetched = [urllib.request.urlopen(image.url, timeout=20).read() for image in images.data]
            check("an image at its URL is the same, without a key", fetched == inline)
    for form, start in (("wav", b"RIFF"), ("mp3", b"ID3"), ("raw", b"")):
        speech = client.audio.speech.create(
            model="canopylabs/orpheus-3b-0.1-ft", input="Hello there", voice="tara", response_format=form)
        sound = speech.read()
        check(f"speech comes as {form}", sound.startswith(start) and len(sound) > 100, sound[:20])
    recordings(client)
    once = client.with_options(max_retries=0)
    fails("an unknown model is 404", together.NotFoundError, lambda: once.chat.completions.create(
        model="a/no-such-model", messages=messages))
    fails("a missing message is 400", together.BadRequestError, lambda: once.chat.completions.create(
        model=MODEL, messages=[]))
    bad = together.Together(api_key="bad-key", base_url=BASE, max_retries=0)
    fails("a bad key is 401", together.AuthenticationError, lambda: bad.chat.completions.create(
        model=MODEL, messages=messages))
    scripted = [{"role": "user", "content": "[[sandbox:status=503,times=2]] retried"}]
    again = client.chat.completions.create(model=MODEL, messages=scripted)
    check("two 503s are retried by the SDK", bool(again.choices[0].message.content))


def recordings(client):
    samples = b"\x01\x00" * 24_000
    wav = (b"RIFF" + struct.pack("<I", 36 + len(samples)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
           + b"data" + struct.pack("<I", len(samples)) + samples)
    path = WORK / "sound.wav"
    path.write_bytes(wav)
    asked = {"model": "openai/whisper-large-v3", "language": "de", "temperature": 0.2}
    plain = client.audio.transcriptions.create(file=path, **asked)
    check("a transcript has a text", bool(plain.text), plain)
    again = client.audio.transcriptions.create(file=("other name.wav", wav), **asked)
    check("the bytes decide the transcript", again.text == plain.text, again)
    verbose = client.audio.transcriptions.create(
        file=path, response_format="verbose_json", timestamp_granularities=["word", "segment"], diarize=True, **asked)
    check("a verbose one has duration, segments, words and speakers", verbose.duration == 1.5 and verbose.language == "de"
          and verbose.segments[0].end == 1.5 and verbose.words and verbose.speaker_segments[0].words, verbose)
    english = client.audio.translations.create(model="openai/whisper-large-v3", file=path)
    check("a translation has a text", bool(english.text), english)
    once = client.with_options(max_retries=0)
    fails("a text is no recording", together.BadRequestError, lambda: once.audio.transcriptions.create(
        model="openai/whisper-large-v3", file=("a.wav", b"no sound")))
    if LLBATCH:
        # What llbatch sends of the same recording is heard as the same.
        rows_file, out = WORK / "sounds.jsonl", WORK / "heard.jsonl"
        rows_file.write_text(json.dumps({"id": "a", "file": "sound.wav", **asked}) + "\n")
        subprocess.run(
            [LLBATCH, "--state-dir", str(WORK / "state"), "--base-url", URL, "run", "--endpoint", "transcriptions",
             str(rows_file), "-o", str(out), "-q"], check=True, env={**os.environ, "TOGETHER_API_KEY": KEY})
        heard = json.loads(out.read_text())["response"]["body"]["text"]
        check("llbatch uploads the same bytes", heard == plain.text, heard)


def files(client):
    path = rows("files.jsonl", 3)
    first = client.files.upload(path, purpose="batch-api", check=False)
    check("upload ends with the file object", first.filename == "files.jsonl" and first.bytes == path.stat().st_size, first)
    again = client.files.upload(path, purpose="batch-api", check=False)
    check("the same bytes are the same file (409)", again.id == first.id, again)
    check("retrieve", client.files.retrieve(first.id).id == first.id)
    check("list", first.id in [file.id for file in client.files.list().data])
    check("content", client.files.content(first.id).read() == path.read_bytes())
    with client.files.with_streaming_response.content(first.id) as streamed:
        digest = hashlib.sha256(b"".join(streamed.iter_bytes())).hexdigest()
    check("content, streamed", digest == hashlib.sha256(path.read_bytes()).hexdigest())
    gone = client.files.delete(first.id)
    check("delete", gone.deleted is True, gone)
    once = client.with_options(max_retries=0)
    fails("a deleted file is 404", together.NotFoundError, lambda: once.files.retrieve(first.id))


def batches(client):
    uploaded = client.files.upload(rows("batch.jsonl", 8), purpose="batch-api", check=False)
    made = client.batches.create(endpoint="/v1/chat/completions", input_file_id=uploaded.id)
    job = made.job
    check("create gives a job", bool(job and job.id) and job.input_file_id == uploaded.id, made)
    check("a new job is not final", job.status in ("VALIDATING", "IN_PROGRESS"), job)
    check("times are read", job.job_deadline is not None and job.created_at is not None, job)
    check("list, newest first", client.batches.list()[0].id == job.id)
    check("retrieve a batch", client.batches.retrieve(job.id).input_file_id == uploaded.id)
    last = ended(client, job.id)
    check("the job completes", last.status == "COMPLETED" and last.progress == 100 and last.output_file_id, last)
    lines = answers(client.files.content(last.output_file_id).read())
    check("every row is answered", set(lines) == {f"row-{i}" for i in range(1, 9)}, lines)
    direct = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "batch.jsonl: say 5"}])
    batch = lines["row-5"]["response"]["body"]["choices"][0]["message"]["content"]
    check("a row's answer is the one of realtime", direct.choices[0].message.content == batch)

    path = rows("mixed.jsonl", 4)
    text = path.read_text().splitlines(keepends=True)
    text[1] = text[1].replace(MODEL, "a/no-such-model")
    path.write_text("".join(text))
    uploaded = client.files.upload(path, purpose="batch-api", check=False)
    last = ended(client, client.batches.create(endpoint="/v1/chat/completions", input_file_id=uploaded.id).job.id)
    errors = answers(client.files.content(last.error_file_id).read())
    check("a failed row stands in the error file", list(errors) == ["row-2"], errors)

    path = rows("refused.jsonl", 2, model="zai-org/GLM-5")
    uploaded = client.files.upload(path, purpose="batch-api", check=False)
    last = ended(client, client.batches.create(endpoint="/v1/chat/completions", input_file_id=uploaded.id).job.id)
    check("a refused model fails the job", last.status == "FAILED" and last.error, last)

    uploaded = client.files.upload(rows("cancel.jsonl", 50), purpose="batch-api", check=False)
    job = client.batches.create(endpoint="/v1/chat/completions", input_file_id=uploaded.id).job
    time.sleep(1.5)
    asked = client.batches.cancel(job.id)
    check("cancel", asked.status in ("CANCELING", "CANCELLED"), asked)
    last = ended(client, job.id)
    check("a cancelled job ends so", last.status == "CANCELLED")
    kept = len(answers(client.files.content(last.output_file_id).read())) if last.output_file_id else 0
    check("a cancelled job keeps some of its rows", 0 < kept < 50, kept)
    once = client.with_options(max_retries=0)
    fails("an unknown job is 404", together.NotFoundError, lambda: once.batches.retrieve("nobody"))


async def asynchronous():
    async with together.AsyncTogether(api_key=KEY, base_url=BASE) as client:
        path = rows("async.jsonl", 2)
        uploaded = await client.files.upload(path, purpose="batch-api", check=False)
        content = await client.files.content(uploaded.id)
        check("upload and content, asynchronous", await content.read() == path.read_bytes())
        made = await client.batches.create(endpoint="/v1/chat/completions", input_file_id=uploaded.id)
        check("create, asynchronous", bool(made.job and made.job.id), made)
        check("list, asynchronous", made.job.id in [job.id for job in await client.batches.list()])
        asked = await client.batches.cancel(made.job.id)
        check("cancel, asynchronous", asked.status in ("CANCELING", "CANCELLED"), asked)


def defects():
    """What the service may do on a bad day, as the SDK takes it."""
    client = together.Together(api_key=KEY, base_url=server("--fault", "status=500,on=create,after,nth=1"))
    uploaded = client.files.upload(rows("twice.jsonl", 2), purpose="batch-api", check=False)
    client.batches.create(endpoint="/v1/chat/completions", input_file_id=uploaded.id)
    made = [job for job in client.batches.list() if job.input_file_id == uploaded.id]
    check("a create that is done and answered 500 is two jobs, as the SDK resends it", len(made) == 2, made)

    client = together.Together(api_key=KEY, base_url=server("--content-redirect", "--unset", "null"))
    path = rows("redirected.jsonl", 200)
    uploaded = client.files.upload(path, purpose="batch-api", check=False)
    check("content is found behind a redirect", client.files.content(uploaded.id).read() == path.read_bytes())
    job = client.batches.create(endpoint="/v1/chat/completions", input_file_id=uploaded.id).job
    check("unset fields may be null", job.output_file_id is None and job.error is None, job)

    base = server("--fault", "null-job")
    once = together.Together(api_key=KEY, base_url=base, max_retries=0)
    uploaded = once.files.upload(rows("null.jsonl", 1), purpose="batch-api", check=False)
    made = once.batches.create(endpoint="/v1/chat/completions", input_file_id=uploaded.id)
    check("a create may give no job but a warning", made.job is None and made.warning, made)

    args = ("--batch-validation", "0s", "--batch-run", "0s", "--expires-at", "0.5", "--list-undone")
    client = together.Together(api_key=KEY, base_url=server(*args))
    uploaded = client.files.upload(rows("expired.jsonl", 10), purpose="batch-api", check=False)
    last = ended(client, client.batches.create(endpoint="/v1/chat/completions", input_file_id=uploaded.id).job.id)
    halves = [len(answers(client.files.content(file).read())) for file in (last.output_file_id, last.error_file_id)]
    check("an expired job has both its files", last.status == "EXPIRED" and halves == [5, 5], (last, halves))


def kept():
    """A job lives on while no server is up."""
    args = ("--keep", str(WORK / "kept"), "--batch-run", "1s")
    client = together.Together(api_key=KEY, base_url=server(*args))
    uploaded = client.files.upload(rows("kept.jsonl", 3), purpose="batch-api", check=False)
    job = client.batches.create(endpoint="/v1/chat/completions", input_file_id=uploaded.id).job
    servers.pop().kill()
    client = together.Together(api_key=KEY, base_url=server(*args))
    last = ended(client, job.id)
    check("a job outlives its server, killed", len(answers(client.files.content(last.output_file_id).read())) == 3, last)


def command_line(client):
    path = rows("cli.jsonl", 5)
    submitted = tg("batches", "submit", str(path), "chat.completions")
    job = submitted["job"]["id"]
    check("tg submits", bool(job), submitted)
    check("tg lists", job in json.dumps(tg("batches", "ls")))
    # On a busy machine, the CLI takes longer to start than a batch takes to end.
    slow = server("--batch-run", "600s")
    unfinished = tg("batches", "submit", str(path), "chat.completions", base=slow)["job"]["id"]
    early = tg("batches", "download", unfinished, "--output", "early.jsonl", code=1, base=slow)
    check("tg does not download early", "not ready" in early["error"], early)
    ended(client, job)
    shown = tg("batches", "get", job)
    check("tg shows the end", shown["status"] == "COMPLETED", shown)
    check("tg shows it to people", "Completed" in tg("batches", "get", job, text=True))
    tg("batches", "download", job, "--output", str(WORK / "cli.out.jsonl"))
    check("tg downloads every row", len(answers((WORK / "cli.out.jsonl").read_bytes())) == 5)
    check("tg prints every row", len(tg("batches", "download", job, text=True).splitlines()) == 5)
    listed = tg("files", "ls")
    check("tg lists files", shown["input_file_id"] in json.dumps(listed), listed)
    got = tg("files", "retrieve", shown["input_file_id"])
    check("tg retrieves a file", got["bytes"] == path.stat().st_size, got)
    given = tg("files", "upload", str(rows("cli3.jsonl", 2)), "--purpose", "batch-api", "--no-check")
    check("tg uploads", given["filename"] == "cli3.jsonl", given)
    tg("files", "download", shown["input_file_id"], "--output", str(WORK / "cli.in.jsonl"))
    check("tg downloads a file", (WORK / "cli.in.jsonl").read_bytes() == path.read_bytes())
    again = tg("batches", "submit", str(rows("cli2.jsonl", 30)), "chat.completions")["job"]["id"]
    cancelled = tg("batches", "cancel", again)
    check("tg cancels", cancelled["status"] in ("CANCELING", "CANCELLED"), cancelled)


def main():
    client = together.Together(api_key=KEY, base_url=BASE)
    if os.environ.get("INTEROP_FRESH") == "1":
        check("a list without jobs is null", client.batches.list() is None)
    inference(client)
    files(client)
    batches(client)
    asyncio.run(asynchronous())
    command_line(client)
    # Servers of our own, if there is a binary to start them with.
    if LLBATCH:
        try:
            defects()
            kept()
        finally:
            for process in servers:
                process.kill()
    print(f"{passed} passed, 0 failed")


main()
