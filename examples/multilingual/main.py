# Support in English and French from one cache, each language from its own answers.
#   lockgate serve --config examples/multilingual/lockgate.yaml
#   python examples/multilingual/main.py      (pip install openai)
import os
import time

from openai import APIStatusError, OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "any"),
    max_retries=0,
)


def ask(question: str, **headers: str) -> str:
    """What the cache had to do with the answer."""
    answer = client.chat.completions.with_raw_response.create(
        model="support",
        temperature=0,
        messages=[
            {"role": "system", "content": "You are the support of a bank. Answer in the language of the question."},
            {"role": "user", "content": question},
        ],
        extra_headers=headers,
    )
    return answer.headers["x-lockgate-cache"]


def ask_the_cache(question: str, patience: float = 5.0) -> str:
    """From the cache alone. An answer is stored a moment after it was given, so a first question waits for that."""
    end = time.monotonic() + patience
    while True:
        try:
            return ask(question, **{"cache-control": "only-if-cached"})
        except APIStatusError as error:
            if time.monotonic() > end:
                return f"no answer ({error.code})"
            time.sleep(0.1)


print("How do I open an account?", "->", ask("How do I open an account?"))
print("How can I open an account?", "->", ask_the_cache("How can I open an account?"))
print("Comment ouvrir un compte ?", "->", ask("Comment ouvrir un compte ?"))
print("Comment puis-je ouvrir un compte ?", "->", ask_the_cache("Comment puis-je ouvrir un compte ?"))
