// The AI SDK by its three doors: openai("m") is /responses, openai.chat("m") and openai-compatible are /chat/completions.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { report } from "./sections.mjs";

const baseURL = process.env.OPENAI_BASE_URL;
const apiKey = process.env.OPENAI_API_KEY;
const openai = createOpenAI({ baseURL, apiKey });
const compatible = createOpenAICompatible({ name: "gateway", baseURL, apiKey, includeUsage: true, supportsStructuredOutputs: true });
const GREETING = "Grüße, 世界 🌍";
const Person = z.object({ name: z.string(), age: z.number().int() });
const doors = { responses: (name) => openai(name), chat: (name) => openai.chat(name), compatible: (name) => compatible(name) };

function sectionsOf(door, model) {
  return {
    [`${door}_generate`]: async () => {
      const { text, finishReason, usage } = await generateText({ model: model("gpt-4o"), prompt: GREETING });
      return { text, finishReason, tokens: usage.totalTokens };
    },

    [`${door}_stream`]: async () => {
      const errors = [];
      const result = streamText({ model: model("gpt-4o"), prompt: GREETING, onError: ({ error }) => errors.push(String(error)) });
      const pieces = [];
      for await (const piece of result.textStream) pieces.push(piece);
      return { text: pieces.join(""), finishReason: await result.finishReason, tokens: (await result.usage).totalTokens, errors };
    },

    // two steps: the call, then the answer to its result
    [`${door}_tools`]: async () => {
      const seen = [];
      const city = z.enum(["東京"]);
      const weather = tool({
        description: "The weather of a city.",
        inputSchema: z.object({ city }),
        execute: async (input) => (seen.push(input), "22 °C"),
      });
      const { text, steps } = await generateText({ model: model("tools"), prompt: GREETING, tools: { weather }, stopWhen: stepCountIs(3) });
      return { seen, text, steps: steps.length };
    },

    [`${door}_stream_tools`]: async () => {
      const seen = [];
      const weather = tool({ inputSchema: z.object({ city: z.enum(["東京"]) }), execute: async (input) => (seen.push(input), "22 °C") });
      const result = streamText({ model: model("tools"), prompt: GREETING, tools: { weather }, stopWhen: stepCountIs(3) });
      return { text: await result.text, steps: (await result.steps).length, seen };
    },

    [`${door}_object`]: async () => {
      const { output } = await generateText({ model: model("fake/json"), prompt: GREETING, output: Output.object({ schema: Person }) });
      return output;
    },

    [`${door}_error`]: async () => {
      try {
        await generateText({ model: model("no-such-model"), prompt: GREETING, maxRetries: 0 });
      } catch (error) {
        return { name: error.name, status: error.statusCode, retryable: error.isRetryable, code: error.data?.error?.code ?? null };
      }
      return null;
    },

    [`${door}_cut`]: async () => {
      const errors = [];
      const result = streamText({
        model: model("fake/echo+chunks=4+every=30ms+fault=cut+at=2"),
        prompt: GREETING,
        maxRetries: 0,
        onError: ({ error }) => errors.push(error),
      });
      let text = "";
      for await (const part of result.fullStream) if (part.type === "text-delta") text += part.text;
      return { text, errors: errors.length };
    },
  };
}

await report({
  ...Object.assign({}, ...Object.entries(doors).map(([door, model]) => sectionsOf(door, model))),

  embeddings: async () => {
    const one = await embed({ model: openai.embedding("text-embedding-3-small"), value: "one" });
    const many = await embedMany({ model: compatible.embeddingModel("text-embedding-3-small"), values: ["one", "zwei"] });
    return { one: one.embedding, many: many.embeddings, tokens: one.usage.tokens };
  },
});
