"""Checks of `llbatch` on object stores that are not ours. Started by run.sh."""

import argparse
import gzip
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

FAILED = []


def check(what, held, more=""):
    print(f"  {'ok  ' if held else 'FAIL'}  {what}{'' if held else ': ' + str(more)[:600]}", flush=True)
    if not held:
        FAILED.append(what)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Store:
    """A store on loopback: its server, its environment, and a client that is not ours."""

    scheme = "s3"
    key_is_checked = True

    def __init__(self, tools, directory):
        self.tools, self.directory, self.port = Path(tools), directory, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        log = open(directory / "server.log", "w")
        self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=directory)
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.1)
        self.begin()

    def end(self):
        self.process.terminate()
        self.process.wait()

    def address(self, key, bucket="bucket"):
        return f"{self.scheme}://{bucket}/{key}"


class Boto(Store):
    keys = ("AKIAEXAMPLE", "secret")

    def env(self):
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.keys[0],
            "AWS_SECRET_ACCESS_KEY": self.keys[1],
            "AWS_REGION": "us-east-1",
        }

    def wrong(self):
        return {**self.env(), "AWS_SECRET_ACCESS_KEY": "wrong"}

    def begin(self):
        import boto3

        access, secret = self.keys
        self.client = boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=access, aws_secret_access_key=secret, region_name="us-east-1"
        )
        try:
            self.client.create_bucket(Bucket="bucket")
        except Exception:
            self.client.head_bucket(Bucket="bucket")

    def put(self, key, data):
        self.client.put_object(Bucket="bucket", Key=key, Body=data)

    def get(self, key):
        try:
            return self.client.get_object(Bucket="bucket", Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None

    def uploads(self):
        return len(self.client.list_multipart_uploads(Bucket="bucket").get("Uploads", []))


class Moto(Boto):
    key_is_checked = False

    def command(self):
        return [self.tools / "venv/bin/moto_server", "-H", "127.0.0.1", "-p", str(self.port)]


class S3rver(Boto):
    keys = ("S3RVER", "S3RVER")
    key_is_checked = False

    def command(self):
        run = self.tools / "node_modules/s3rver/bin/s3rver.js"
        return ["node", run, "-d", self.directory / "data", "-a", "127.0.0.1", "-p", str(self.port),
                "--configure-bucket", "bucket"]

    def uploads(self):
        return 0


class Azurite(Store):
    scheme = "az"
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def command(self):
        run = self.tools / "node_modules/azurite/dist/src/blob/main.js"
        return ["node", run, "--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", self.directory / "data",
                "--silent", "--skipApiVersionCheck"]

    def text(self, key):
        return (f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};"
                f"BlobEndpoint={self.url}/devstoreaccount1")

    def env(self):
        return {"AZURE_STORAGE_CONNECTION_STRING": self.text(self.key)}

    def wrong(self):
        return {"AZURE_STORAGE_CONNECTION_STRING": self.text("d3Jvbmc=")}

    def begin(self):
        from azure.storage.blob import BlobServiceClient

        self.client = BlobServiceClient.from_connection_string(self.text(self.key)).create_container("bucket")

    def put(self, key, data):
        self.client.upload_blob(key, data, overwrite=True)

    def get(self, key):
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return self.client.download_blob(key).readall()
        except ResourceNotFoundError:
            return None

    def uploads(self):
        return 0


class Gcs(Moto):
    """Google's XML API is S3's, and it is what llbatch speaks. gcp-storage-emulator has the JSON API alone."""

    scheme = "gs"

    def env(self):
        return {"STORAGE_EMULATOR_HOST": self.url}


class Checks:
    def __init__(self, store, binary, rows, kills):
        self.store, self.binary, self.rows, self.kills = store, str(Path(binary).resolve()), rows, kills
        self.home = store.directory / "home"
        self.home.mkdir()
        self.serving = subprocess.Popen(
            [self.binary, "serve", "--latency", "3ms"], env=self.env(), stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL)
        self.base = self.serving.stdout.readline().strip()

    def env(self, store_env=None):
        plain = {"HOME": str(self.home), "PATH": os.environ["PATH"], "TOGETHER_API_KEY": "k", "TMPDIR": str(self.home)}
        return {**plain, **(self.store.env() if store_env is None else store_env)}

    def start(self, *args, env=None):
        return subprocess.Popen(
            [self.binary, *map(str, args)], env=self.env(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=self.home)

    def run(self, *args, env=None):
        process = self.start(*args, env=env)
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    def llm(self, *args):
        return ["run", "--base-url", self.base, *args]

    def paid(self):
        stats = self.base.replace("/v1", "") + "/sandbox/stats"
        return json.load(urllib.request.urlopen(stats))["requests"]

    def input(self, count, first=1, length=10):
        row = '{{"id":"q{}","prompt":"question {} {}","model":"meta-llama/Llama-3.2-3B-Instruct-Turbo","max_tokens":8}}\n'
        return "".join(row.format(n, n, "x" * length) for n in range(first, first + count))

    def ids(self, text):
        return [json.loads(line)["custom_id"] for line in text.splitlines()]

    def whole(self, text, count, first=1):
        rows = [json.loads(line) for line in text.splitlines()]
        return ([row["custom_id"] for row in rows] == [f"q{n}" for n in range(first, first + count)]
                and all(row["error"] is None for row in rows))

    def reads(self):
        store, text = self.store, self.input(300)
        store.put("in/a.jsonl", self.input(100).encode())
        store.put("in/b/c.jsonl.gz", gzip.compress(self.input(100, 101).encode()))
        store.put("in/d e+é.jsonl", self.input(100, 201).encode())
        (self.home / "in.jsonl").write_text(text)
        local = self.run(*self.llm("in.jsonl"))[1]
        code, out, err = self.run(*self.llm(store.address("in/"), "--fresh"))
        check("objects below a prefix are read as one input", code == 0 and out == local, err)
        code, out, err = self.run(*self.llm(store.address("in/[a-b].jsonl"), "--fresh"))
        check("a pattern chooses among them", code == 0 and self.ids(out) == self.ids(local)[:100], err)
        code, out, err = self.run("check", store.address("in/b/c.jsonl.gz"), "--json")
        check("check reads a packed object", code == 0 and json.loads(out)["rows"] == 100, err)

    def writes(self):
        store = self.store
        (self.home / "few.jsonl").write_text(self.input(50) + '{"id":"bad"}\n')
        at = store.address
        code, _, err = self.run(*self.llm("few.jsonl", "--skip-invalid", "-o", at("out/r.jsonl"), "--errors",
                                          at("out/e.jsonl"), "--summary", at("out/s.json")))
        check("results, failed rows and a summary are written", code == 3, err)
        self.run(*self.llm("few.jsonl", "--skip-invalid", "-o", "r.jsonl", "--errors", "e.jsonl", "--fresh"))
        same = [store.get(f"out/{name}") == (self.home / name).read_bytes() for name in ("r.jsonl", "e.jsonl")]
        check("another client reads the bytes of the files", all(same) and b'"rows"' in (store.get("out/s.json") or b""), same)
        code, out, err = self.run("report", at("out/r.jsonl"), "--json")
        check("report reads them back", code == 0 and json.loads(out)["rows"]["total"] == 50, err)
        code, _, err = self.run("merge", "few.jsonl", at("out/r.jsonl"), at("out/e.jsonl"), "-o", at("out/all.jsonl"))
        check("merge reads and writes them", code == 3 and len((store.get("out/all.jsonl") or b"").splitlines()) == 51, err)
        code, _, err = self.run("prepare", "few.jsonl", "--skip-invalid", "-o", at("out/batch.jsonl"))
        check("prepare writes a batch file", code in (0, 3) and len((store.get("out/batch.jsonl") or b"").splitlines()) == 50, err)

    def killed_reads(self):
        store, text = self.store, self.input(self.rows, length=400)
        store.put("big.jsonl", text.encode())
        at, before = store.address("big.jsonl"), self.paid()
        (self.home / "big-out.jsonl").unlink(missing_ok=True)
        args = self.llm(at, "-o", "big-out.jsonl", "--fresh")
        for kill in range(self.kills):
            process = self.start(*args)
            args = self.llm(at, "-o", "big-out.jsonl")
            time.sleep(random.uniform(0.3, 3))
            process.kill()
            process.communicate()
        code, _, err = self.run(*args)
        done = (self.home / "big-out.jsonl").read_text() if code == 0 else ""
        check(f"a run that reads {len(text) >> 20} MiB and is killed {self.kills} times resumes",
              code == 0 and self.whole(done, self.rows), err)
        extra = self.paid() - before - self.rows
        # Requests in flight at a kill may be paid twice.
        check(f"and pays nothing twice but what was in flight ({extra})", extra <= self.kills * 256, extra)

    def killed_writes(self):
        store = self.store
        # The answers are short, so the results are made long by the records' own fields.
        count = 40
        note = "".join(random.choices("abcdefghij", k=1 << 20))
        rows = [{"id": f"q{n}", "prompt": f"question {n}", "note": note} for n in range(1, count + 1)]
        (self.home / "wide.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        args = self.llm("wide.jsonl", "--flat", "-m", "meta-llama/Llama-3.2-3B-Instruct-Turbo", "--prompt", "{{ prompt }}",
                        "-o", store.address("wide.jsonl"))
        notes = self.home / ".local/state/llbatch/uploads"
        seen, visible = 0, False
        paid = None
        for kill in range(self.kills):
            process = self.start(*args)
            end = time.time() + 120
            while process.poll() is None and time.time() < end and not any(notes.glob("upload-*")):
                time.sleep(0.002)
            time.sleep(random.uniform(0, 0.3))
            running = process.poll() is None
            process.kill()
            process.communicate()
            if running:
                seen += 1
                got = store.get("wide.jsonl")
                visible |= got is not None and len(got) < count << 20
                paid = self.paid()
            else:
                break
        check(f"{seen} kills in the middle of an upload leave nothing half done visible", seen > 0 and not visible, (seen, visible))
        code, _, err = self.run(*args)
        got = store.get("wide.jsonl") or b""
        lines = got.splitlines()
        check("the same command writes the whole object",
              code == 0 and [json.loads(line)["id"] for line in lines] == [row["id"] for row in rows], err)
        check("and pays nothing", paid is None or self.paid() - paid in (0, count), (paid, self.paid()))
        # Between the store's reply and the note, each kill may leave one upload that nobody knows, without any part.
        left = self.store.uploads()
        # A store that cannot abort keeps the upload, and llbatch says so.
        noted = any(notes.glob("upload-*"))
        said = "cannot be aborted" in " ".join(err.split())
        check("no noted upload is left behind unsaid", left <= seen and (not noted or said), (left, seen, err))

    def changed(self):
        store = self.store
        # Longer than what is read ahead.
        old, new = self.input(4000, length=12000), self.input(4000, 5001, length=12000)
        store.put("moving.jsonl", old.encode())
        process = self.start(*self.llm(store.address("moving.jsonl"), "--concurrency", "1", "-o", "moving-out.jsonl", "--fresh"))
        before = self.paid()
        while self.paid() < before + 20 and process.poll() is None:
            time.sleep(0.02)
        store.put("moving.jsonl", new.encode())
        _, err = process.communicate(timeout=300)
        check("an object replaced under a run stops it", process.returncode == 1 and "changed while llbatch read it" in err, err)
        check("and no results are written", not (self.home / "moving-out.jsonl").exists())
        code, _, err = self.run(*self.llm(store.address("moving.jsonl"), "-o", "moving-out.jsonl"))
        done = (self.home / "moving-out.jsonl").read_text() if code == 0 else ""
        check("the next run is one of the new object alone", code == 0 and self.whole(done, 4000, 5001), err)

    def shared_answers(self):
        """Three copies of a task at once: one pays. A task that is killed goes on from the parts, without its state directory."""
        (self.home / "task.jsonl").write_text(self.input(400, 20_001))
        place, before = self.store.address("answers"), self.paid()
        task = lambda name: self.llm("task.jsonl", "--answers", place, "--concurrency", 2, "-o", f"{name}.jsonl", "--state-dir", name)
        ends = [process.communicate() + (process.returncode,) for process in [self.start(*task(name)) for name in "abc"]]
        check("three copies of a task end well", all(code == 0 for *_, code in ends), ends)
        check("and pay once", self.paid() - before == 400, self.paid() - before)
        check("two of them wait", sum("works on this task too" in err for _, err, _ in ends) == 2, ends)
        texts = [(self.home / f"{name}.jsonl").read_text() for name in "abc"]
        check("and all have the same results", texts[0] == texts[1] == texts[2] and self.whole(texts[0], 400, 20_001), "")
        (self.home / "task.jsonl").write_text(self.input(2500, 30_001))
        before, first = self.paid(), self.start(*task("d"))
        while self.paid() - before < 1500:
            time.sleep(0.05)
        first.kill()
        first.communicate()
        code, _, err = self.run(*task("e"))
        check("a copy takes over from one that was killed", code == 0 and "answered by other tasks" in err, err)
        again = self.paid() - before - 2500
        check(f"and pays again what was not sealed ({again})", again <= 1010, again)

    def refusals(self):
        store = self.store
        for what, url, says in [("object", store.address("none.jsonl"), "no such"),
                                ("bucket", store.address("none.jsonl", "no-such-bucket"), "no such")]:
            code, _, err = self.run("check", url)
            check(f"a missing {what} is exit 66", code == 66 and says in err, err)
        code, _, err = self.run(*self.llm("few.jsonl", "-o", store.address("r.jsonl", "no-such-bucket"), "--skip-invalid",
                                          "--fresh"))
        check("results into a missing bucket are exit 74 before anything is sent", code == 74, err) if store.scheme != "az" \
            else print("        Azure tells only at the end that a container is missing:", code)
        if store.key_is_checked:
            code, _, err = self.run("check", store.address("in/a.jsonl"), env=store.wrong())
            check("a wrong key is exit 66, and is not shown", code == 66 and "d3Jvbmc" not in err, err)

    def all(self):
        for step in (self.reads, self.writes, self.killed_reads, self.killed_writes, self.changed, self.shared_answers,
                     self.refusals):
            try:
                step()
            except Exception as error:  # A store that cannot do something fails its check, not the script.
                check(step.__name__, False, repr(error))
        self.serving.send_signal(signal.SIGTERM)
        self.serving.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools")
    parser.add_argument("--llbatch")
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--only", default="moto,s3rver,azurite,gcs")
    args = parser.parse_args()
    kinds = {"moto": Moto, "s3rver": S3rver, "azurite": Azurite, "gcs": Gcs}
    for name in args.only.split(","):
        print(name, flush=True)
        directory = Path(tempfile.mkdtemp(prefix="llbatch-objects-"))
        store = kinds[name](args.tools, directory)
        try:
            Checks(store, args.llbatch, args.rows, args.kills).all()
        finally:
            store.end()
            shutil.rmtree(directory, ignore_errors=True)
    print(f"{len(FAILED)} failed" if FAILED else "all held")
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
