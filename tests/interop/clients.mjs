// The sandbox as SDKs of other makers see it, from Node.
// Usage: node clients.mjs CLIENT TOGETHER_URL OPENAI_URL NODE_MODULES
// CLIENT is openai or together-ai. Each is driven against both dialects.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [client, together, openai, modules] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const SDK = require(client);
const version = JSON.parse(readFileSync(`${modules}/${client}/package.json`)).version;
const Client = SDK.default ?? SDK;

const model = "meta-llama/Llama-3.3-70B-Instruct-Turbo";
const embedder = "intfloat/multilingual-e5-large-instruct";
const messages = [{ role: "user", content: "Which lamp is this?" }];
const parameters = { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } } };
const tool = (name) => ({ type: "function", function: { name, parameters } });
const both = [{ role: "user", content: "Call get_weather and get_time for Oslo" }];
let passed = 0;

// One line per fact; the first that does not hold ends the run.
function check(name, condition, shown) {
  if (!condition) {
    console.log(`FAILED  ${name}: ${JSON.stringify(shown)}`);
    process.exit(1);
  }
  passed += 1;
  console.log(`ok      ${name}`);
}

async function fails(name, kind, call) {
  try {
    check(name, false, await call());
  } catch (error) {
    check(name, error instanceof kind, String(error));
    return error;
  }
}

// The choices of a stream, put together.
async function joined(stream) {
  const choices = {};
  const usages = [];
  for await (const chunk of stream) {
    if (chunk.usage) usages.push(chunk.usage.total_tokens);
    for (const part of chunk.choices) {
      const choice = (choices[part.index] ??= { content: "", calls: {}, finish: null });
      choice.content += part.delta.content ?? "";
      choice.finish = part.finish_reason ?? choice.finish;
      for (const call of part.delta.tool_calls ?? []) {
        const seen = (choice.calls[call.index] ??= { id: "", name: "", arguments: "" });
        seen.id += call.id ?? "";
        seen.name += call.function.name ?? "";
        seen.arguments += call.function.arguments ?? "";
      }
    }
  }
  return { choices, usages };
}

// The choices of an answer at once, in the same form.
function whole(answer) {
  const choices = {};
  for (const choice of answer.choices) {
    const calls = (choice.message.tool_calls ?? []).map((call, i) => [i, { id: call.id, ...call.function }]);
    const shown = ([i, { id, name, arguments: text }]) => [i, { id, name, arguments: text }];
    choices[choice.index] = {
      content: choice.message.content ?? "",
      calls: Object.fromEntries(calls.map(shown)),
      finish: choice.finish_reason,
    };
  }
  return choices;
}

const same = (one, two) => JSON.stringify(one) === JSON.stringify(two);

async function drive(dialect, baseURL) {
  const sdk = new Client({ apiKey: "interop-key", baseURL });
  const create = (request) => sdk.chat.completions.create({ model, ...request });
  const requests = {
    chat: { messages },
    "three choices": { messages, n: 3 },
    "a required tool": { messages, tools: [tool("get_weather")], tool_choice: "required" },
    "two tools by name": { messages: both, tools: [tool("get_time"), tool("get_weather")] },
  };
  for (const [name, request] of Object.entries(requests)) {
    const answer = await create(request);
    const seen = await joined(await create({ ...request, stream: true, stream_options: { include_usage: true } }));
    check(`${dialect}: ${name}, streamed as at once`, same(seen.choices, whole(answer)), [seen, whole(answer)]);
    check(`${dialect}: ${name}, with its usage`, same(seen.usages, [answer.usage.total_tokens]), seen.usages);
  }
  const calls = Object.values(whole(await create(requests["two tools by name"]))[0].calls);
  check(`${dialect}: both tools are called`, same(calls.map((call) => call.name), ["get_time", "get_weather"]), calls);
  // OpenAI's SDK asks for base64 by itself.
  const vectors = await sdk.embeddings.create({ model: embedder, input: ["a", "b"] });
  const floats = await sdk.embeddings.create({ model: embedder, input: ["a", "b"], encoding_format: "float" });
  const near = vectors.data.every(({ embedding }, i) =>
    embedding.length === 16 && embedding.every((x, k) => Math.abs(x - floats.data[i].embedding[k]) < 1e-6));
  check(`${dialect}: embeddings are whole`, near, [vectors, floats]);
  const broken = [{ role: "user", content: "[[sandbox:stream-error]] broken" }];
  await fails(`${dialect}: an error inside a stream is raised`, SDK.APIError ?? Client.APIError, async () =>
    joined(await create({ messages: broken, stream: true })));
  const shaped = [{ role: "user", content: "[[sandbox:split,line-end=crlf,comments]] shaped" }];
  const seen = await joined(await create({ messages: shaped, stream: true }));
  check(`${dialect}: a stream of odd pieces is read`, same(seen.choices, whole(await create({ messages: shaped }))), seen);
}

console.log(`${client} ${version} (Node ${process.versions.node})`);
await drive("together", together);
await drive("openai", openai);
console.log(`${client} ${version}: ${passed} passed, 0 failed`);
