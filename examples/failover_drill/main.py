# A drill: providers fail in four ways; the client sees an answer, or an honest end.
#   lockgate serve --config examples/failover_drill/lockgate.yaml
#   python examples/failover_drill/main.py      (pip install openai)
import os
from typing import Any

from openai import APIError, OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "any"),
)


def drill(model: str, *, stream: bool) -> str:
    """What a client sees: who answered after how many attempts, or how the stream ended."""
    answer: Any = client.chat.completions.with_raw_response.create(
        model=model, stream=stream, messages=[{"role": "user", "content": "Say hello."}]
    )
    told = answer.headers
    facts = f"attempts {told['x-lockgate-attempts']}, fallbacks {told['x-lockgate-fallbacks']}"
    if not stream:
        return f"{facts}: answered"
    try:
        pieces = [chunk for chunk in answer.parse() if chunk.choices and chunk.choices[0].delta.content]
    except APIError as error:
        return f"{facts}: the stream broke and said so ({error.code})"
    return f"{facts}: answered in {'one piece' if len(pieces) == 1 else 'pieces'}"


for model in ("works", "overloaded", "out-of-quota"):
    print(f"{model}: {drill(model, stream=False)}")
print(f"silent: {drill('silent', stream=True)}")
print(f"breaks-midway: {drill('breaks-midway', stream=True)}")
