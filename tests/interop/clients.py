"""The sandbox as SDKs of other makers see it. Usage: clients.py CLIENT TOGETHER_URL OPENAI_URL WORKDIR

CLIENT is openai, together, langchain-openai or litellm. Each is driven against both dialects. openai-batches is the
first of them with models, files and batches of OpenAI's dialect.
"""

import importlib.metadata
import json
import sys
import time
from pathlib import Path

CLIENT, URLS, WORK = sys.argv[1], {"together": sys.argv[2], "openai": sys.argv[3]}, Path(sys.argv[4])
MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
EMBEDDER = "intfloat/multilingual-e5-large-instruct"
KEY = "interop-key"
MESSAGES = [{"role": "user", "content": "Which lamp is this?"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "…", "parameters": PARAMETERS}}
TIME = {"type": "function", "function": {"name": "get_time", "description": "…", "parameters": PARAMETERS}}
BOTH = [{"role": "user", "content": "Call get_weather and get_time for Oslo"}]
passed = 0


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


def joined(chunks):
    """The choices of a stream, put together, and the usages that it named."""
    choices, usages = {}, []
    for chunk in chunks:
        if chunk.usage:
            usages.append(chunk.usage)
        for part in chunk.choices:
            choice = choices.setdefault(part.index, {"content": "", "calls": {}, "finish": None, "logprobs": []})
            choice["content"] += part.delta.content or ""
            choice["finish"] = part.finish_reason or choice["finish"]
            if getattr(part, "logprobs", None) and getattr(part.logprobs, "content", None):
                choice["logprobs"] += part.logprobs.content
            for call in part.delta.tool_calls or []:
                seen = choice["calls"].setdefault(int(call.index), {"id": "", "name": "", "arguments": ""})
                seen["id"] += call.id or ""
                seen["name"] += call.function.name or ""
                seen["arguments"] += call.function.arguments or ""
    return choices, usages


def whole(answer):
    """The choices of an answer at once, in the same form."""
    choices = {}
    for choice in answer.choices:
        calls = enumerate(choice.message.tool_calls or [])
        calls = {i: {"id": c.id, "name": c.function.name, "arguments": c.function.arguments} for i, c in calls}
        logprobs = getattr(choice, "logprobs", None)
        choices[choice.index] = {
            "content": choice.message.content or "",
            "calls": calls,
            "finish": choice.finish_reason,
            "logprobs": list(getattr(logprobs, "content", None) or []),
        }
    return choices


def chat(client, dialect):
    """Chat of an SDK in the manner of OpenAI's: at once and streamed."""
    create = client.chat.completions.create
    requests = {
        "chat": {"messages": MESSAGES},
        "three choices": {"messages": MESSAGES, "n": 3},
        "a cut answer": {"messages": MESSAGES, "max_tokens": 5},
        "a required tool": {"messages": MESSAGES, "tools": [WEATHER], "tool_choice": "required"},
        "two tools by name": {"messages": BOTH, "tools": [TIME, WEATHER]},
    }
    if CLIENT != "together":
        requests["logprobs"] = {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2}
    for name, request in requests.items():
        answer = create(model=MODEL, **request)
        # Together's SDK has no parameter of that name.
        extra = {"extra_body": {"stream_options": {"include_usage": True}}}
        choices, usages = joined(create(model=MODEL, stream=True, **extra, **request))
        check(f"{dialect}: {name}, streamed as at once", choices == whole(answer), (choices, whole(answer)))
        same = len(usages) == 1 and usages[0].total_tokens == answer.usage.total_tokens
        check(f"{dialect}: {name}, with its usage at the end", same, usages)
    first = whole(create(model=MODEL, **requests["a required tool"]))[0]
    arguments = json.loads(first["calls"][0]["arguments"])
    check(f"{dialect}: the arguments fit the tool", set(arguments) == {"city", "days"}, first)
    names = [call["name"] for call in whole(create(model=MODEL, **requests["two tools by name"]))[0]["calls"].values()]
    check(f"{dialect}: both tools are called", names == ["get_time", "get_weather"], names)
    talk = BOTH + [
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    last = whole(create(model=MODEL, messages=talk, tools=[TIME, WEATHER]))[0]
    check(f"{dialect}: the result of a tool is answered in words", last["finish"] == "stop" and last["content"], last)


def errors(client, module, dialect):
    once = client.with_options(max_retries=0)
    create = once.chat.completions.create
    fails(f"{dialect}: an unknown model is 404", module.NotFoundError, lambda: create(
        model="a/no-such-model", messages=MESSAGES))
    fails(f"{dialect}: functions of old are 400", module.BadRequestError, lambda: create(
        model=MODEL, messages=MESSAGES, extra_body={"functions": [WEATHER["function"]]}))
    broken = [{"role": "user", "content": "[[sandbox:stream-error]] broken"}]
    error = fails(f"{dialect}: an error inside a stream is raised", module.APIError, lambda: joined(create(
        model=MODEL, messages=broken, stream=True)))
    check(f"{dialect}: with its message", "middle" in str(error), error)
    refused = [{"role": "user", "content": "[[sandbox:status=429]] refused"}]
    fails(f"{dialect}: 429 before a stream is its own error", module.RateLimitError, lambda: create(
        model=MODEL, messages=refused, stream=True))
    for shape in ("split,line-end=crlf,comments", "line-end=cr,split", "drip=0"):
        shaped = [{"role": "user", "content": f"[[sandbox:{shape}]] shaped"}]
        answer = create(model=MODEL, messages=shaped)
        choices, _ = joined(create(model=MODEL, messages=shaped, stream=True))
        check(f"{dialect}: a stream with {shape} is read", choices == whole(answer), choices)


def openai_sdk():
    import openai

    for dialect, url in URLS.items():
        client = openai.OpenAI(api_key=KEY, base_url=url)
        chat(client, dialect)
        errors(client, openai, dialect)
        text = client.completions.create(model=MODEL, prompt="Once", n=2)
        parts = {}
        for chunk in client.completions.create(model=MODEL, prompt="Once", n=2, stream=True):
            for part in chunk.choices:
                parts[part.index] = parts.get(part.index, "") + part.text
        check(f"{dialect}: completions, streamed as at once", parts == {c.index: c.text for c in text.choices}, parts)
        # The SDK asks for base64 by itself.
        vectors = client.embeddings.create(model=EMBEDDER, input=["a", "b"])
        floats = client.embeddings.create(model=EMBEDDER, input=["a", "b"], encoding_format="float")
        near = all(
            len(one.embedding) == len(two.embedding) == 16
            and all(abs(x - y) < 1e-6 for x, y in zip(one.embedding, two.embedding))
            for one, two in zip(vectors.data, floats.data))
        check(f"{dialect}: embeddings as base64 are those as numbers", near, (vectors, floats))
        short = client.embeddings.create(model=EMBEDDER, input="a", dimensions=5)
        check(f"{dialect}: embeddings of five dimensions", len(short.data[0].embedding) == 5, short)
    client = openai.OpenAI(api_key=KEY, base_url=URLS["openai"])
    with client.chat.completions.stream(model=MODEL, messages=BOTH, tools=[TIME, WEATHER]) as events:
        final = events.get_final_completion()
    names = [call.function.name for call in final.choices[0].message.tool_calls]
    check("openai: the stream helper puts the calls together", names == ["get_time", "get_weather"], final)


def openai_batches():
    """Models, files and batches, from the upload to the results."""
    import openai

    client = openai.OpenAI(api_key=KEY, base_url=URLS["openai"])
    check("openai: models are listed", MODEL in [model.id for model in client.models.list().data])
    lines = [
        {"custom_id": f"row-{i}", "method": "POST", "url": "/v1/chat/completions", "body": {
            "model": MODEL, "max_tokens": 0 if i == 3 else 100, "messages": [{"role": "user", "content": f"say {i}"}]}}
        for i in range(1, 6)
    ]
    path = WORK / "openai.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    file = client.files.create(file=path.open("rb"), purpose="batch")
    check("openai: upload", file.bytes == path.stat().st_size and file.purpose == "batch", file)
    check("openai: files are listed", file.id in [listed.id for listed in client.files.list()])
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"who": "interop"})
    check("openai: create", batch.metadata == {"who": "interop"} and batch.status == "validating", batch)
    check("openai: batches are listed", batch.id in [listed.id for listed in client.batches.list(limit=1)])
    begun = time.monotonic()
    while batch.status in ("validating", "in_progress", "finalizing"):
        if time.monotonic() - begun > 30:
            check("openai: the batch ends within 30 s", False, batch)
        time.sleep(0.5)
        batch = client.batches.retrieve(batch.id)
    counts = batch.request_counts
    check("openai: the batch completes", batch.status == "completed", batch)
    check("openai: its rows are counted", (counts.total, counts.completed, counts.failed) == (5, 4, 1), counts)
    output, failed = (
        [json.loads(line) for line in client.files.content(name).text.splitlines()]
        for name in (batch.output_file_id, batch.error_file_id))
    check("openai: rows are answered", sorted(line["custom_id"][-1] for line in output) == list("1245"), output)
    check("openai: a failed row stands in the error file", [line["custom_id"] for line in failed] == ["row-3"], failed)
    direct = client.chat.completions.create(**lines[0]["body"])
    row = next(line for line in output if line["custom_id"] == "row-1")["response"]["body"]
    check("openai: a row's answer is the one of chat", row == json.loads(direct.to_json()), row)
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    asked = client.batches.cancel(batch.id)
    check("openai: cancel", asked.status in ("cancelling", "cancelled"), asked)
    check("openai: delete", client.files.delete(file.id).deleted)


def together_sdk():
    import together

    for dialect, url in URLS.items():
        # The SDK puts /v1 into each path itself.
        client = together.Together(api_key=KEY, base_url=url.removesuffix("/v1"))
        chat(client, dialect)
        errors(client, together, dialect)
        vectors = client.embeddings.create(model=EMBEDDER, input=["a", "b"])
        check(f"{dialect}: embeddings answer", [len(item.embedding) for item in vectors.data] == [16, 16], vectors)
    client = together.Together(api_key=KEY, base_url=URLS["together"].removesuffix("/v1"))
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, logprobs=1)
    seen = answer.choices[0].logprobs
    check("together: logprobs in its own form", "".join(seen.tokens) == answer.choices[0].message.content, seen)
    text = client.completions.create(model=MODEL, prompt="Once")
    parts = [chunk.choices[0].text for chunk in client.completions.create(model=MODEL, prompt="Once", stream=True)]
    check("together: completions, streamed as at once", "".join(parts) == text.choices[0].text, parts)


def langchain():
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings
    from pydantic import BaseModel

    @tool
    def get_weather(city: str, days: int) -> str:
        """The weather."""
        return f"rain in {city} for {days} days"

    class Lamp(BaseModel):
        colour: str
        count: int

    for dialect, url in URLS.items():
        model = ChatOpenAI(model=MODEL, api_key=KEY, base_url=url, stream_usage=True)
        answer = model.invoke("Which lamp is this?")
        total = None
        for chunk in model.stream("Which lamp is this?"):
            total = chunk if total is None else total + chunk
        check(f"{dialect}: streamed as at once", total.content == answer.content, (total, answer))
        check(f"{dialect}: with the same usage", total.usage_metadata == answer.usage_metadata, (total, answer))
        bound = model.bind_tools([get_weather], tool_choice="required")
        called = bound.invoke("Oslo").tool_calls
        check(f"{dialect}: a tool is called", called[0]["name"] == "get_weather", called)
        check(f"{dialect}: its arguments are valid", "rain" in get_weather.invoke(called[0]["args"]), called)
        total = None
        for chunk in bound.stream("Oslo"):
            total = chunk if total is None else total + chunk
        check(f"{dialect}: a tool call, streamed as at once", total.tool_calls == called, total)
        lamp = model.with_structured_output(Lamp).invoke("Which lamp?")
        check(f"{dialect}: structured output", isinstance(lamp, Lamp), lamp)
        embedder = OpenAIEmbeddings(
            model=EMBEDDER, api_key=KEY, base_url=url, check_embedding_ctx_length=False)
        vectors = embedder.embed_documents(["a", "b"])
        check(f"{dialect}: embeddings answer", [len(vector) for vector in vectors] == [16, 16], vectors)


def lite():
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    for dialect, url in URLS.items():
        to = {"api_key": KEY, "api_base": url}
        name = f"openai/{MODEL}"
        answer = litellm.completion(model=name, messages=MESSAGES, **to)
        chunks = list(litellm.completion(
            model=name, messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **to))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        check(f"{dialect}: streamed as at once", text == answer.choices[0].message.content, (text, answer))
        built = litellm.stream_chunk_builder(chunks)
        check(f"{dialect}: with the same usage", built.usage.total_tokens == answer.usage.total_tokens, built)
        call = {"messages": BOTH, "tools": [TIME, WEATHER], **to}
        answer = litellm.completion(model=name, **call)
        built = litellm.stream_chunk_builder(list(litellm.completion(model=name, stream=True, **call)))
        calls = [[(c.function.name, c.function.arguments) for c in a.choices[0].message.tool_calls] for a in (answer, built)]
        check(f"{dialect}: tool calls, streamed as at once", calls[0] == calls[1] and len(calls[0]) == 2, calls)
        vectors = litellm.embedding(model=f"openai/{EMBEDDER}", input=["a", "b"], **to)
        check(f"{dialect}: embeddings answer", [len(item["embedding"]) for item in vectors.data] == [16, 16], vectors)


def main():
    version = importlib.metadata.version(CLIENT.removesuffix("-batches"))
    print(f"{CLIENT} {version} (Python {sys.version.split()[0]})")
    parts = {
        "openai": openai_sdk,
        "openai-batches": openai_batches,
        "together": together_sdk,
        "langchain-openai": langchain,
        "litellm": lite,
    }
    parts[CLIENT]()
    print(f"{CLIENT} {version}: {passed} passed, 0 failed")


main()
