"""Plain requests, without llbatch.

ask.py ready URL                         0 if a GET is answered with 200
ask.py same URL KEY REQUESTS RESULTS     0 if every result is what a plain request of the same body gets (KEY may be empty)
"""

import concurrent.futures
import json
import sys
import urllib.error
import urllib.request

OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def ready(url):
    try:
        with OPEN(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def ask(url, key, body):
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
    with OPEN(request, timeout=600) as answer:
        return json.load(answer)


def stable(body):
    """What one server says to one body each time: no id, no clock, no account of its cache."""
    usage = body.get("usage", {})
    return body["choices"], usage.get("prompt_tokens"), usage.get("completion_tokens")


def same(url, key, requests, results):
    with open(requests) as lines:
        requests = [json.loads(line) for line in lines]
    with open(results) as lines:
        results = [json.loads(line) for line in lines]
    if [row["custom_id"] for row in requests] != [row["custom_id"] for row in results]:
        print(f"      {len(requests)} rows in, {len(results)} out, or in another order")
        return False
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        plain = list(pool.map(lambda row: stable(ask(url, key, row["body"])), requests))
    other = [
        (row["custom_id"], row["response"] and row["response"]["body"], expected)
        for row, expected in zip(results, plain)
        if row["error"] or stable(row["response"]["body"]) != expected
    ]
    for name, got, expected in other[:5]:
        print(f"      {name}: {json.dumps(got)[:300]}\n      plain: {json.dumps(expected)[:300]}")
    print(f"      {len(results) - len(other)} of {len(results)} answers equal a plain request's")
    return bool(results) and not other


if __name__ == "__main__":
    sys.exit(not {"ready": ready, "same": same}[sys.argv[1]](*sys.argv[2:]))
