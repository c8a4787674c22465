"""Writes the inputs and results files of run.sh: every kind of row, and texts that would like to be markup."""

import json
import random

MODELS = [
    "meta-llama/Llama-3.2-3B-Instruct-Turbo",
    "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "openai/gpt-oss-120b",
]
HOSTILE = [
    "</script><script>document.title='OWNED';window.OWNED=1</script>",
    "<img src=x onerror=\"document.title='OWNED';window.OWNED=1\">",
    "'\"><svg onload=window.OWNED=1></svg>",
    "\u202etxt.exe \u2066turned\u2069",
    "<!-- ]]> &lt; &amp; {{ x }} </style></title>",
    "unbroken" * 30,
    "مرحبا بالعالم، هذا سطر من اليمين إلى اليسار",
]
FAULTS = ["status=429", "status=503", "status=400", "status=500", "wrong-shape", "reset"]
dice = random.Random(7)


def write(name, rows):
    with open(name, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def shouts(text):
    """Makes the sandbox answer with these words."""
    schema = {"type": "object", "properties": {"words": {"const": text * 9}}, "required": ["words"]}
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}


def prompts(count, faults):
    for n in range(count):
        row = {"id": f"review-{n:04}", "prompt": f"Sentiment of review {n}?", "model": MODELS[n % 7 % 3], "max_tokens": 400}
        if n % 11 == 3:
            row["id"] = f"{n} {HOSTILE[n % len(HOSTILE)]}"
        if n % 13 == 5:
            row["prompt"] = f"[[sandbox:{faults[n % len(faults)]}]] {n}"
        elif n % 17 == 6:
            row |= {"response_format": shouts(HOSTILE[n % len(HOSTILE)]), "max_tokens": 60}
        elif n % 19 == 7:
            row["prompt"] += f"[[sandbox:delay={dice.choice([150, 300, 700])}ms]]"
        yield row


# Over realtime, being told to wait is no failure: the row would be tried for minutes.
write("realtime.jsonl", prompts(600, FAULTS[2:]))
write("batch.jsonl", prompts(300, FAULTS[:4]))

start = 1_793_400_000
output, errors = [], []
for n in range(3000):
    tokens = min(2048, int(dice.lognormvariate(5.2, 0.7)))
    usage = {"prompt_tokens": dice.randint(200, 900), "completion_tokens": tokens}
    choice = {"message": {"content": f"Answer {n}. {dice.choice(HOSTILE)}"}, "finish_reason": "length" if tokens == 2048 else "stop"}
    made = start + int(abs(dice.gauss(0, 2600)))
    body = {"model": MODELS[n % 5 % 3], "created": made, "choices": [choice], "usage": usage}
    if n % 40 == 9:
        errors.append({"custom_id": f"doc-{n}", "error": {"code": dice.choice(["timeout", "invalid_model", HOSTILE[0]]), "message": dice.choice(HOSTILE)}})
    else:
        output.append({"custom_id": f"doc-{n}", "response": {"status_code": 200, "body": body}})
write("output.jsonl", output)
write("errors.jsonl", errors)
