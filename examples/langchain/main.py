# pip install langchain-openai
import os

from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr

base_url = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
api_key = SecretStr(os.environ.get("OPENAI_API_KEY", "any"))

model = ChatOpenAI(model="gpt-4o-mini", base_url=base_url, api_key=api_key)
print(model.invoke("Say hello.").text)

for chunk in model.stream("Count to three."):
    print(chunk.text, end="", flush=True)
print()

# check_embedding_ctx_length=False sends text as it is: no tokenizer has to be downloaded
embeddings = OpenAIEmbeddings(
    model="text-embedding-3-small", base_url=base_url, api_key=api_key, check_embedding_ctx_length=False
)
vectors = embeddings.embed_documents(["one", "two"])
print(len(vectors), "vectors of", len(vectors[0]))
