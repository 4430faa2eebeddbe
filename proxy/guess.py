"""How many tokens a text has, roughly: for where no provider counts them. Four bytes a token; nothing is parsed."""

_FILES = (b";base64,", b'"data":"', b'"data": "')
"""What stands before the base64 of a file or of audio."""
_BYTES = 4
_FILE_TOKENS = 1500
"""What an image or another file inside a request counts as, at least."""
_FILE_BYTES = 500
"""Bytes of a file a token, where that comes to more."""


def tokens_of(size: int) -> int:
    """Of so many bytes of text."""
    return -(-size // _BYTES)


def tokens_asked(body: bytes) -> int:
    """Of a request, its files apart: what stands in a body as base64 costs a provider nothing like its length."""
    text, tokens = len(body), 0
    for mark in _FILES:
        at = 0
        while (at := body.find(mark, at)) >= 0:
            at += len(mark)
            end = body.find(b'"', at)
            size = (len(body) if end < 0 else end) - at
            text -= size
            tokens += max(_FILE_TOKENS, size // _FILE_BYTES)
            at += size
    return tokens_of(text) + tokens
