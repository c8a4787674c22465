#!/usr/bin/env python3
"""A role of a machine, end to end: the metadata service in clear, the store behind TLS elsewhere than on this machine.

Usage: unshare -Urn tests/objects/roles.py PATH-TO-llbatch

In a network of its own, this process is the metadata service of AWS (169.254.169.254), a store behind TLS (10.77.0.1, whose
certificate `openssl` makes), and a proxy that must see nothing. llbatch gets no keys, reads rows from the store and writes
results there. Needs Linux with user namespaces, `ip`, `openssl` and Python 3.9. Takes some seconds.
Exit status: 0 if all held, 1 if a check failed.
"""

import http.server
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import threading

METADATA, STORE, PROXY = "169.254.169.254", "10.77.0.1", "127.0.0.1"
ROLE = {"Code": "Success", "AccessKeyId": "role-key", "SecretAccessKey": "s", "Token": "role-token",
        "Expiration": "2099-01-01T00:00:00Z"}
OBJECTS, SEEN = {}, {"metadata": [], "store": [], "proxy": []}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, body=b"", status=200, **headers):
        self.send_response(status)
        for name, value in {"content-length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        SEEN[self.server.role].append(f"{self.command} {self.path}")
        getattr(self, self.server.role)(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do_CONNECT = handle_one

    def metadata(self, _):
        if self.path == "/latest/api/token":
            return self.reply(b"imds-token")
        known = {"/latest/meta-data/iam/security-credentials/": b"the-role",
                 "/latest/meta-data/iam/security-credentials/the-role": json.dumps(ROLE).encode()}
        return self.reply(known.get(self.path, b""), 200 if self.path in known else 404)

    def proxy(self, _):
        self.reply(b"", 502)

    def store(self, body):
        path = self.path.split("?")[0]
        if "role-key/" not in self.headers.get("authorization", ""):
            return self.reply(b"<Error><Code>AccessDenied</Code></Error>", 403)
        if self.command == "PUT":
            OBJECTS[path] = body
            return self.reply(etag='"1"')
        if self.command == "POST":
            return self.reply(b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
        if self.command == "DELETE":
            return self.reply(b"", 204)
        data = OBJECTS.get(path)
        if data is None:
            return self.reply(b"<Error><Code>NoSuchKey</Code></Error>", 404)
        about = {"etag": f'"{len(data)}"', "last_modified": "Mon, 30 Nov 2026 10:00:00 GMT"}
        if self.command == "HEAD":
            return self.reply(data, **about)
        first, last = self.headers["range"].removeprefix("bytes=").split("-")
        part = data[int(first) : int(last) + 1]
        total = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        return self.reply(part, 206, content_range=total, **about)


def serve(role, address, port, context=None):
    server = http.server.ThreadingHTTPServer((address, port), Handler)
    server.role = role
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def certificate(folder):
    """The certificate of an authority, and the store's own."""
    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "s.key", "-out", "s.csr", "-subj", "/CN=store")
    (folder / "ext").write_text(f"subjectAltName=IP:{STORE}\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", "s.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "s.pem",
            "-days", "2", "-extfile", "ext")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "s.pem", folder / "s.key")
    return context


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0 if len(sys.argv) == 2 else 2
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    for command in ["link set lo up", f"addr add {METADATA}/32 dev lo", f"addr add {STORE}/32 dev lo"]:
        subprocess.run(["ip", *command.split()], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        context = certificate(folder)
        serve("metadata", METADATA, 80)
        port = serve("store", STORE, 0, context)
        proxy = serve("proxy", PROXY, 0)
        OBJECTS["/bucket/in.jsonl"] = b"".join(b'{"id":"%d","prompt":"hello"}\n' % n for n in range(5))
        environment = {"PATH": os.environ["PATH"], "HOME": name, "SSL_CERT_FILE": str(folder / "ca.pem"), "AWS_REGION": "us-east-1",
                       "AWS_ENDPOINT_URL": f"https://{STORE}:{port}", "HTTP_PROXY": f"http://{PROXY}:{proxy}"}
        run = subprocess.run([binary, "run", "s3://bucket/in.jsonl", "--sandbox", "-q", "-m", "meta-llama/Llama-3.2-3B-Instruct-Turbo", "-o", "s3://bucket/out.jsonl"],
                             env=environment, cwd=name, capture_output=True, text=True, timeout=120)
    held = {
        "the run ends with 0": run.returncode == 0,
        "the results are in the store": OBJECTS.get("/bucket/out.jsonl", b"").count(b"\n") == 5,
        "the role was asked for": any("the-role" in line for line in SEEN["metadata"]),
        "the proxy saw nothing": not SEEN["proxy"],
    }
    for what, holds in held.items():
        print(f"{'ok  ' if holds else 'FAIL'} {what}")
    if not all(held.values()):
        print(run.stderr, SEEN, sep="\n", file=sys.stderr)
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
