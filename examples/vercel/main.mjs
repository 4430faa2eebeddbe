// npm install ai @ai-sdk/openai-compatible
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, streamText } from "ai";

const gateway = createOpenAICompatible({
  name: "lockgate",
  baseURL: process.env.OPENAI_BASE_URL ?? "http://127.0.0.1:8000/v1",
  apiKey: process.env.OPENAI_API_KEY ?? "any",
});

const { text } = await generateText({ model: gateway("gpt-4o-mini"), prompt: "Say hello." });
console.log(text);

const { textStream } = streamText({ model: gateway("gpt-4o-mini"), prompt: "Count to three." });
for await (const piece of textStream) process.stdout.write(piece);
console.log();

const { embeddings } = await embedMany({
  model: gateway.embeddingModel("text-embedding-3-small"),
  values: ["one", "two"],
});
console.log(`${embeddings.length} vectors of ${embeddings[0].length}`);
