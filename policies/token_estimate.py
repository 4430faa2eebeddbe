"""How many tokens a call will take, guessed from its bytes before anyone has counted."""

from proxy.call import Call
from proxy.wire import Members

_BYTES_PER_TOKEN = 4
"""English text in OpenAI's encodings; JSON around it is counted along."""
_INLINE = b";base64,"
_INLINE_TOKENS = 1000
"""What an image or file inside the body counts for: its bytes say nothing about its tokens."""
_DIGITS = 9
"""A longer number is a mistake or an attack; it counts as what fits."""
MAX_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""The names under which the APIs bound an answer."""


def estimate(call: Call, assumed: int) -> tuple[int, int]:
    """Tokens of the prompt and of the answer: as many as the call allows, `assumed` where it does not say; 0 where
    there is no answer in tokens.
    """
    prompt = -(-_text_bytes(call.body) // _BYTES_PER_TOKEN)
    if call.endpoint.dialect is None:
        return prompt, 0
    members = call.head.members
    allowed = max((_whole_number(members, name) for name in MAX_TOKENS if name in members), default=0)
    return prompt, (allowed or assumed) * max(1, _whole_number(members, "n"))


def _text_bytes(body: bytes) -> int:
    if _INLINE not in body:
        return len(body)
    size, at = len(body), 0
    while (start := body.find(_INLINE, at)) >= 0:
        at = body.find(b'"', start)
        if at < 0:
            break
        size -= at - start - _INLINE_TOKENS * _BYTES_PER_TOKEN
    return max(0, size)


def _whole_number(members: Members, name: str) -> int:
    """A count, or 0 for what is none: whether it may stand there is not decided here."""
    raw = bytes(members.get(name, b""))
    return int(raw[:_DIGITS]) if raw.isdigit() else 0
