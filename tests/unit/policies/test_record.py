import asyncio

import pytest
from support.calls import make_call

from policies.record import RecentRecords, WriteRecord
from proxy.call import Call, Record
from proxy.errors import GuardBlocked, UnknownModel
from proxy.reply import Reply


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)


async def through(handler: object) -> tuple[Kept, BaseException | Reply]:
    kept = Kept()
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
    assert [(record.outcome, record.status) for record in kept.records] == [(outcome, status)]


async def test_a_reply_is_written_when_it_is_closed_and_not_before() -> None:
    """With the outcome it is closed with, once."""

    async def handler(_call: Call) -> Reply:
        return Reply.whole(b"{}", status=200)

    kept, reply = await through(handler)
    assert isinstance(reply, Reply)
    assert kept.records == []
    await reply.aclose("upstream_interrupted")
    await reply.aclose("complete")
    assert [(record.outcome, record.status, record.duration) for record in kept.records] == [
        ("upstream_interrupted", 200, 10.0)
    ]


def record(number: int) -> Record:
    return Record(id=f"{number:032x}", endpoint="chat", started=1.0)


def test_recent_records_are_bounded() -> None:
    """The oldest is forgotten."""
    recent = RecentRecords(keep=2)
    for number in range(3):
        recent.write(record(number))
    assert recent.find(record(0).id) is None
    assert recent.find(record(2).id) is not None
