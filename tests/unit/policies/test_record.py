import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from support.calls import make_call

from policies.record import KeepTexts, Kept, RecentRecords, WriteRecord
from proxy.call import Call, Caller, Record
from proxy.endpoints import EMBEDDINGS
from proxy.errors import GatewayError, GuardBlocked, UnknownModel, UpstreamInterrupted
from proxy.reply import Reply
from proxy.segments import Texts
from proxy.sse import DONE_ITEM, frame


class Gathered:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)


async def through(handler: object) -> tuple[Gathered, BaseException | Reply]:
    kept = Gathered()
    policy = WriteRecord((kept,), lambda: 10.0)
    try:
        return kept, await policy(make_call(), handler)  # type: ignore[arg-type]
    except BaseException as error:  # noqa: BLE001 - every way a call can end
        return kept, error


def raising(error: BaseException) -> object:
    async def handler(_call: Call) -> Reply:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [
        (UnknownModel("x"), "error", 404),
        (GuardBlocked("no"), "guard_blocked", 400),
        (asyncio.CancelledError(), "client_disconnect", 0),
        (RuntimeError("bug"), "error", 500),
    ],
)
async def test_a_call_without_a_reply_is_written_as_it_ended(error: BaseException, outcome: str, status: int) -> None:
    """Refusals, departures and our own bugs: one line each, and the error goes on."""
    kept, raised = await through(raising(error))
    assert raised is error
    await asyncio.sleep(0)
    assert [(record.outcome, record.status) for record in kept.records] == [(outcome, status)]


class Told:
    """A sink that notes what a record says when it gets it."""

    def __init__(self, name: str, said: list[tuple[str, str, str | None, bool]]) -> None:
        self.name, self.said = name, said

    def write(self, record: Record) -> None:
        self.said.append((self.name, record.id, record.outcome, record.amended))


async def test_the_records_of_one_turn_reach_each_sink_together() -> None:
    """In their order, and before the loop looks for anything new."""
    said: list[tuple[str, str, str | None, bool]] = []
    policy = WriteRecord((Told("a", said), Told("b", said)), lambda: 10.0)
    for number in ("1", "2"):
        call = make_call()
        call.record.id = number
        await policy(call, answering)
        assert said == []
    await asyncio.sleep(0)
    assert [(name, record) for name, record, _, _ in said] == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]


async def test_what_must_outlive_a_crash_is_told_at_once() -> None:
    """Whoever has an answer finds its line in the access log."""
    said: list[tuple[str, str, str | None, bool]] = []
    await WriteRecord((Told("later", said),), lambda: 10.0, at_once=(Told("at once", said),))(make_call(), answering)
    assert [name for name, *_ in said] == ["at once"]
    await asyncio.sleep(0)
    assert [name for name, *_ in said] == ["at once", "later"]


async def test_a_record_is_told_as_it_was_before_it_is_amended() -> None:
    """A client that leaves with the last byte: the sinks hear of both endings, in the same turn too."""
    said: list[tuple[str, str, str | None, bool]] = []
    call = make_call()
    call.record.id = "1"
    reply = await WriteRecord((Told("a", said),), lambda: 10.0)(call, answering)
    await reply.aclose("client_disconnect")
    await asyncio.sleep(0)
    assert said == [("a", "1", "complete", False), ("a", "1", "client_disconnect", True)]


async def answering(_call: Call) -> Reply:
    return Reply.whole(b"{}")


class Entries:
    """A log that keeps what it gets as it was then."""

    def __init__(self) -> None:
        self.all: list[tuple[Record, bytes]] = []

    def append(self, record: Record, texts: bytes = b"") -> None:
        self.all.append((msgspec.json.decode(msgspec.json.encode(record), type=Record), texts))

    @property
    def outcomes(self) -> list[tuple[str | None, bool]]:
        return [(each.outcome, each.amended) for each, _ in self.all]


def replying(items: list[bytes], *, streaming: bool, error: GatewayError | None = None) -> object:
    """A handler whose reply has these items, and then fails, or not."""

    async def handler(_call: Call) -> Reply:
        async def said() -> AsyncIterator[bytes]:
            for item in items:
                yield item
            if error is not None:
                raise error

        return Reply(said(), streaming=streaming)

    return handler


async def begin(handler: object, call: Call | None = None, **settings: object) -> tuple[Entries, Reply]:
    log = Entries()
    policy = WriteRecord((), lambda: 10.0, log=log, **settings)  # type: ignore[arg-type]
    return log, await policy(call or make_call(), handler)  # type: ignore[arg-type]


async def test_a_stream_is_sealed_before_its_done_is_handed_over() -> None:
    """Whoever has read `[DONE]` finds its record on disk; nothing is written sooner, and nothing again after."""
    log, reply = await begin(replying([b"data: {}\n\n", DONE_ITEM], streaming=True))
    items = aiter(reply.items)
    await anext(items)
    assert log.all == []
    assert await anext(items) == DONE_ITEM
    assert log.outcomes == [("complete", False)]
    assert [item async for item in items] == []
    await reply.aclose("complete")
    assert log.outcomes == [("complete", False)]


@pytest.mark.parametrize("kind", [b"response.completed", b"response.incomplete"])
async def test_a_responses_stream_is_sealed_before_its_last_event(kind: bytes) -> None:
    """It has no `[DONE]`."""
    log, reply = await begin(
        replying([frame(b"{}", b"response.output_text.delta"), frame(b"{}", kind)], streaming=True)
    )
    items = aiter(reply.items)
    await anext(items)
    assert log.all == []
    await anext(items)
    assert log.outcomes == [("complete", False)]


async def test_a_whole_answer_is_sealed_before_it_is_sent() -> None:
    """The body is sent once the items have ended."""
    log, reply = await begin(replying([b"{}"], streaming=False))
    assert log.all == []
    assert [item async for item in reply.items] == [b"{}"]
    assert log.outcomes == [("complete", False)]


async def test_a_broken_stream_is_sealed_before_its_error_event() -> None:
    """With the code that the event will have."""
    broken = UpstreamInterrupted("broke", kind="reset")
    log, reply = await begin(replying([b"data: {}\n\n"], streaming=True, error=broken))
    with pytest.raises(UpstreamInterrupted):
        [item async for item in reply.items]
    assert log.outcomes == [("upstream_interrupted", False)]
    assert log.all[0][0].error == "upstream_interrupted"
    await reply.aclose("upstream_interrupted")
    assert len(log.all) == 1


async def test_a_reply_that_is_given_up_is_sealed_as_it_is_closed() -> None:
    """Once, with the outcome it is closed with."""
    log, reply = await begin(replying([b"data: {}\n\n", DONE_ITEM], streaming=True))
    await anext(aiter(reply.items))
    await reply.aclose("client_disconnect")
    await reply.aclose("complete")
    assert log.outcomes == [("client_disconnect", False)]
    assert log.all[0][0].duration == 10.0


async def test_an_end_that_fails_after_all_is_amended() -> None:
    """The last send did not go through: a second record of the same call says so, texts and all."""
    kept = Kept()
    call = make_call()
    kept.put(call.id, Texts("full", b"asked"))
    log, reply = await begin(replying([b"{}"], streaming=False), call, kept=kept)
    assert [item async for item in reply.items] == [b"{}"]
    await reply.aclose("client_disconnect")
    assert log.outcomes == [("complete", False), ("client_disconnect", True)]
    assert [Texts.decode(texts).request for _, texts in log.all] == [b"asked", b"asked"]
    assert len({each.id for each, _ in log.all}) == 1


async def test_an_answer_that_a_guard_ended_is_not_complete() -> None:
    """To the client it looks whole."""
    call = make_call()
    call.record.guard = "block"
    log, reply = await begin(replying([b"{}"], streaming=False), call)
    assert [item async for item in reply.items] == [b"{}"]
    await reply.aclose("complete")
    assert log.outcomes == [("guard_blocked", False)]


async def test_what_completes_a_record_is_asked_before_every_seal() -> None:
    """A cost is on the record that is written first, and on its amendment."""

    def price(_call: Call, record: Record) -> None:
        record.cost = (record.cost or 0) + 5

    log, reply = await begin(replying([b"{}"], streaming=False), before_seal=[price])
    assert [item async for item in reply.items] == [b"{}"]
    await reply.aclose("error")
    assert [each.cost for each, _ in log.all] == [5, 10]


async def test_closing_the_items_closes_the_ones_inside() -> None:
    """A provider is released at once, not when the garbage is collected."""
    closed = []

    async def said() -> AsyncIterator[bytes]:
        try:
            yield b"data: {}\n\n"
            yield DONE_ITEM
        finally:
            closed.append(True)

    async def handler(_call: Call) -> Reply:
        return Reply(said(), streaming=True)

    _, reply = await begin(handler)
    await anext(aiter(reply.items))
    await reply.items.aclose()  # type: ignore[attr-defined]
    assert closed == [True]


async def keep(bodies: str, own: str | None, items: list[bytes], call: Call | None = None) -> Texts | None:
    """What is kept of a call with these items, under this setting and this caller's own."""
    kept = Kept()
    call = call or make_call(caller=Caller(id="k", bodies=own))  # type: ignore[arg-type]
    reply = await KeepTexts(kept, bodies)(call, replying(items, streaming=True))  # type: ignore[arg-type]
    assert [item async for item in reply.items] == items
    return kept.take(call.id)


@pytest.mark.parametrize(
    ("bodies", "own", "kept"),
    [
        ("full", None, "full"),
        ("full", "redacted", "redacted"),
        ("full", "off", None),
        ("redacted", None, "redacted"),
        ("redacted", "full", "redacted"),
        ("redacted", "off", None),
    ],
)
async def test_a_caller_may_have_less_kept_and_never_more(bodies: str, own: str | None, kept: str | None) -> None:
    """The stricter of the two holds."""
    texts = await keep(bodies, own, [b"data: {}\n\n", DONE_ITEM])
    assert (texts and texts.bodies) == kept


async def test_texts_are_excerpts() -> None:
    """64 kB of either side, and whether there was more; what the client is sent is whole."""
    call = make_call(messages=[{"role": "user", "content": "x" * 100_000}])
    texts = await keep("full", None, [b"a" * 40_000, b"b" * 40_000, b"c"], call)
    assert texts is not None
    assert texts.request == call.body[:65536]
    assert b"".join(texts.answer) == b"a" * 40_000 + b"b" * 25_536
    assert (texts.request_cut, texts.answer_cut) == (True, True)
    short = await keep("full", None, [b"a"])
    assert short is not None
    assert (short.answer, short.request_cut, short.answer_cut) == ([b"a"], False, False)


async def test_vectors_are_not_kept() -> None:
    """They are large, and nobody reads them."""
    texts = await keep("full", None, [b"{}"], make_call(endpoint=EMBEDDINGS, input="x"))
    assert texts is not None
    assert (texts.request != b"", texts.answer) == (True, [])


def record(number: int) -> Record:
    return Record(id=f"{number:032x}", endpoint="chat", started=1.0)


def test_recent_records_are_bounded() -> None:
    """The oldest is forgotten."""
    recent = RecentRecords(keep=2)
    for number in range(3):
        recent.write(record(number))
    assert recent.find(record(0).id) is None
    assert recent.find(record(2).id) is not None
