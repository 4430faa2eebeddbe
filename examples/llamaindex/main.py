# pip install llama-index-llms-openai-like llama-index-embeddings-openai
import os

from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai_like import OpenAILike

base_url = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
api_key = os.environ.get("OPENAI_API_KEY", "any")

# is_chat_model=True asks /chat/completions; without it LlamaIndex asks /completions, which works too
model = OpenAILike(model="gpt-4o-mini", api_base=base_url, api_key=api_key, is_chat_model=True)
print(model.chat([ChatMessage("Say hello.")]).message.content)

for part in model.stream_chat([ChatMessage("Count to three.")]):
    print(part.delta or "", end="", flush=True)
print()

embeddings = OpenAIEmbedding(model_name="text-embedding-3-small", api_base=base_url, api_key=api_key)
vectors = embeddings.get_text_embedding_batch(["one", "two"])
print(len(vectors), "vectors of", len(vectors[0]))
