"""How many tokens a text has, roughly: for where no provider counts them. Four bytes a token; nothing is parsed."""

import string

_BYTES = 4
_MARKS = (b";base64,", b'"data":"', b'"data": "')
"""What stands before the base64 of a file or of audio."""
_LINKS = (b'url":"http', b'url": "http')
"""What stands before the address of a file that a provider fetches itself."""
_ALPHABET = (string.ascii_letters + string.digits + "+/=").encode()
_STEP = 4096
_LOOK = 64
"""A look at so many bytes in every so many tells whether there may be a file: smaller ones count as text."""
_FILE_TOKENS = 1500
"""What an image or another file inside a request counts as, at least."""
_FILE_BYTES = 500
"""Bytes of a file a token, where that comes to more."""


def tokens_of(size: int) -> int:
    """Of so many bytes of text."""
    return -(-size // _BYTES)


def tokens_asked(body: bytes) -> int:
    """Of a request, its files apart: what stands in a body as base64 costs a provider nothing like its length, and
    neither does an address of what it fetches.
    """
    tokens = _FILE_TOKENS * sum(map(body.count, _LINKS)) if b'url"' in body else 0
    if not _may_have_files(body):
        return tokens_of(len(body)) + tokens
    text = len(body)
    for mark in _MARKS:
        at = 0
        while (at := body.find(mark, at)) >= 0:
            at += len(mark)
            end = body.find(b'"', at)
            size = (len(body) if end < 0 else end) - at
            if size >= _STEP:
                text -= size
                tokens += max(_FILE_TOKENS, size // _FILE_BYTES)
            at += size
    return tokens_of(text) + tokens


def _may_have_files(body: bytes) -> bool:
    """Whether a stretch of it has nothing but the letters of base64."""
    return len(body) > _STEP and any(
        not body[at : at + _LOOK].translate(None, _ALPHABET) for at in range(_STEP, len(body) - _LOOK, _STEP)
    )
