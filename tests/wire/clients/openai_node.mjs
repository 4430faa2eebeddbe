// The official JavaScript SDK, unchanged, against OPENAI_BASE_URL.
import OpenAI from "openai";
import { zodResponseFormat, zodFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { report } from "./sections.mjs";

const client = new OpenAI({ maxRetries: 0 });
const upstream = new OpenAI({ baseURL: process.env.UPSTREAM_BASE_URL });
const GREETING = "Grüße, 世界 🌍";
const hello = [{ role: "user", content: GREETING }];
const long = [{ role: "user", content: Array.from({ length: 200 }, (_, index) => `word${index}`).join(" ") }];
const Person = z.object({ name: z.string(), age: z.number().int(), tags: z.array(z.string()) });
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string", enum: ["東京 “Tokyo”"] } }, required: ["city"] },
  },
};

async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function raised(work) {
  try {
    await work();
  } catch (error) {
    const { status, type, code, param, requestID } = error;
    return { class: error.constructor.name, status, type, code, param, message: error.message, body: error.error ?? null, requestID };
  }
  return null;
}

function told(chunks) {
  const choices = chunks.flatMap((chunk) => chunk.choices);
  return {
    text: choices.map((choice) => choice.delta.content ?? "").join(""),
    chunks: chunks.length,
    ids: new Set(chunks.map((chunk) => `${chunk.id} ${chunk.created} ${chunk.model} ${chunk.object}`)).size,
    finishes: choices.map((choice) => choice.finish_reason).filter(Boolean),
    withoutChoices: chunks.filter((chunk) => chunk.choices.length === 0).length,
    usages: chunks.filter((chunk) => chunk.usage).map((chunk) => chunk.usage.completion_tokens),
  };
}

const MODELS = {
  400: "fake/echo+error=context_length_exceeded",
  401: "fake/echo+error=invalid_api_key",
  404: "no-such-model",
  422: "fake/echo+status=422",
  429: "fake/echo+error=rate_limit_exceeded",
  500: "fake/echo+status=500",
  html: "fake/echo+fault=html",
};

await report({
  runtime: () => ({ node: process.versions.node }),

  chat: async () => {
    const answer = await client.chat.completions.create({ model: "gpt-4o", messages: hello });
    return { text: answer.choices[0].message.content, finish: answer.choices[0].finish_reason, id: answer._request_id, usage: answer.usage };
  },

  stream: async () => told(await all(await client.chat.completions.create({ model: "gpt-4o", messages: long, stream: true }))),

  stream_usage: async () =>
    told(await all(await client.chat.completions.create({ model: "gpt-4o", messages: long, stream: true, stream_options: { include_usage: true } }))),

  helper: async () => {
    const stream = client.chat.completions.stream({ model: "gpt-4o", messages: long });
    const final = await stream.finalChatCompletion();
    return { text: final.choices[0].message.content, role: final.choices[0].message.role, finish: final.choices[0].finish_reason };
  },

  tools: async () => {
    const first = await client.chat.completions.create({ model: "tools", messages: hello, tools: [weather] });
    const [call] = first.choices[0].message.tool_calls;
    const history = [...hello, first.choices[0].message, { role: "tool", tool_call_id: call.id, content: "22 °C" }];
    const second = await client.chat.completions.create({ model: "tools", messages: history, tools: [weather] });
    return {
      name: call.function.name,
      arguments: JSON.parse(call.function.arguments),
      finish: first.choices[0].finish_reason,
      answer: second.choices[0].message.content,
    };
  },

  tools_stream: async () => {
    const stream = client.chat.completions.stream({ model: "tools", messages: hello, tools: [weather] });
    const [call] = (await stream.finalChatCompletion()).choices[0].message.tool_calls;
    return { name: call.function.name, arguments: JSON.parse(call.function.arguments) };
  },

  // the SDK's own loop: it calls the function and tells the result back until the answer has no call
  run_tools: async () => {
    const runner = client.chat.completions.runTools({
      model: "tools",
      messages: hello,
      tools: [zodFunction({ name: "person", parameters: Person, function: (person) => `met ${person.name}` })],
    });
    return await runner.finalContent();
  },

  parse: async () => {
    const answer = await client.chat.completions.parse({ model: "fake/json", messages: hello, response_format: zodResponseFormat(Person, "person") });
    return answer.choices[0].message.parsed;
  },

  errors: async () => {
    const outcome = {};
    for (const [name, model] of Object.entries(MODELS))
      outcome[name] = await raised(() => client.chat.completions.create({ model, messages: hello }));
    return outcome;
  },

  errors_of_streams: async () => {
    const outcome = {};
    for (const [name, model] of Object.entries(MODELS))
      outcome[name] = await raised(async () => all(await client.chat.completions.create({ model, messages: hello, stream: true })));
    return outcome;
  },

  broken_streams: async () => {
    const outcome = {};
    for (const fault of ["cut", "cut-reset", "cut-clean", "malformed", "error-mid"]) {
      let text = "";
      const error = await raised(async () => {
        const stream = await client.chat.completions.create({
          model: `fake/echo+chunks=4+every=30ms+fault=${fault}+at=2`,
          messages: hello,
          stream: true,
        });
        for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
      });
      outcome[fault] = { text, error };
    }
    return outcome;
  },

  embeddings: async () => {
    const input = ["one", "zwei", "三"];
    const model = "text-embedding-3-small";
    const vectors = async (from, named, format) =>
      (await from.embeddings.create({ model: named, input, ...format })).data.map((each) => [...new Float32Array(each.embedding)]);
    return {
      default: await vectors(client, model, {}),
      floats: await vectors(client, model, { encoding_format: "float" }),
      direct: await vectors(upstream, "echo+dims=64", {}),
    };
  },

  models: async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { ids, one: await client.models.retrieve("gpt-4o"), slash: (await client.models.retrieve("fake/echo")).id };
  },

  completions: async () => {
    const chunks = await all(await client.completions.create({ model: "gpt-4o", prompt: GREETING, stream: true }));
    return {
      text: (await client.completions.create({ model: "gpt-4o", prompt: GREETING })).choices[0].text,
      streamed: chunks.flatMap((chunk) => chunk.choices).map((choice) => choice.text).join(""),
    };
  },

  moderations: async () => (await client.moderations.create({ model: "omni-moderation-latest", input: "hello" })).results[0].flagged,

  responses: async () => {
    const events = await all(await client.responses.create({ model: "gpt-4o", input: GREETING, stream: true }));
    const parsed = await client.responses.parse({ model: "fake/json", input: "x", text: { format: zodTextFormat(Person, "person") } });
    return {
      text: (await client.responses.create({ model: "gpt-4o", input: GREETING })).output_text,
      kinds: events.map((event) => event.type),
      numbers: events.map((event) => event.sequence_number),
      parsed: parsed.output_parsed,
    };
  },
});
