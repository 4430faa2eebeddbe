import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sse import EventTooLarge, Framer, frame

EVENTS = [(b"", b'{"a": 1}'), (b"response.created", b'{"b": "\xc3\xa9"}'), (b"", b"[DONE]")]
DIALECTS = {
    "plain": b'data: {"a": 1}\n\nevent: response.created\ndata: {"b": "\xc3\xa9"}\n\ndata: [DONE]\n\n',
    "crlf": b'data: {"a": 1}\r\n\r\nevent: response.created\r\ndata: {"b": "\xc3\xa9"}\r\n\r\ndata: [DONE]\r\n\r\n',
    "cr": b'data: {"a": 1}\r\revent: response.created\rdata: {"b": "\xc3\xa9"}\r\rdata: [DONE]\r\r',
    "no space": b'data:{"a": 1}\n\nevent:response.created\ndata:{"b": "\xc3\xa9"}\n\ndata:[DONE]\n\n',
    "comments": b': hello\n\ndata: {"a": 1}\n: x\n\n: ping\n\nevent: response.created\n: y\ndata: {"b": "\xc3\xa9"}\n\ndata: [DONE]\n\n',
    "ids": b'id: 1\nretry: 5\ndata: {"a": 1}\n\nid: 2\n\nevent: ping\n\ndata:\n\nevent: response.created\ndata: {"b": "\xc3\xa9"}\nid: 3\n\ndata: [DONE]\n\n',
    "bom": b'\xef\xbb\xbfdata: {"a": 1}\n\nevent: response.created\ndata: {"b": "\xc3\xa9"}\n\ndata: [DONE]\n\n',
    "many lines": b'data: {"a":\ndata: 1}\n\nevent: response.created\ndata: {"b": "\xc3\xa9"}\n\ndata: [DONE]\n\n',
    "blank lines": b'\n\n\ndata: {"a": 1}\n\n\n\nevent: response.created\ndata: {"b": "\xc3\xa9"}\n\n\ndata: [DONE]\n\n',
    "no end": b'data: {"a": 1}\n\nevent: response.created\ndata: {"b": "\xc3\xa9"}\n\ndata: [DONE]',
}


def framed(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    framer = Framer()
    return [event for piece in pieces for event in framer.feed(piece)] + framer.flush()


@pytest.mark.parametrize("dialect", DIALECTS)
@given(st.lists(st.integers(1, 40), max_size=30))
def test_every_dialect_cut_anywhere_gives_the_same_events(dialect: str, cuts: list[int]) -> None:
    """CRLF, CR, no space, comments, ids, a byte order mark, several data lines, split characters."""
    rest, pieces = DIALECTS[dialect], []
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    assert framed([piece for piece in [*pieces, rest] if piece]) == EVENTS


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_byte_by_byte(dialect: str) -> None:
    """The smallest pieces there are."""
    assert framed([bytes([byte]) for byte in DIALECTS[dialect]]) == EVENTS


def test_one_event_of_64_mb_is_framed_in_linear_time() -> None:
    """In reads of 64 kB; a quadratic framer would take minutes."""
    event = b"data: " + b"x" * (64 * 1024 * 1024) + b"\n\n"
    began = time.process_time()
    events = framed([event[at : at + 65536] for at in range(0, len(event), 65536)])
    assert len(events[0][1]) == 64 * 1024 * 1024
    assert time.process_time() - began < 3


def test_a_hundred_thousand_events_are_framed_in_linear_time() -> None:
    """In reads that cut them anywhere."""
    stream = b"data: {}\n\n" * 100_000
    began = time.process_time()
    assert len(framed([stream[at : at + 1001] for at in range(0, len(stream), 1001)])) == 100_000
    assert time.process_time() - began < 3


def test_an_event_without_end_is_given_up() -> None:
    """Memory is bounded by the limit."""
    framer = Framer(limit=1000)
    framer.feed(b"data: " + b"x" * 900)
    with pytest.raises(EventTooLarge):
        framer.feed(b"y" * 200)


def test_frames_are_what_framers_read() -> None:
    """What we write comes back the same."""
    assert framed([frame(data, name) for name, data in EVENTS]) == EVENTS
