"""`/admin/requests`: the recent calls, and the decisions of one of them."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Annotated, Any, Protocol

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.types import ControllerRouterHandler, Guard

from proxy.call import Record
from proxy.decisions import decisions
from proxy.errors import UnknownCall

Json = dict[str, Any]


class Recent(Protocol):
    """The calls that are remembered."""

    def find(self, call_id: str) -> Record | None:
        """One of them."""
        ...

    def latest(self) -> Iterator[Record]:
        """All, the last one first."""
        ...


def request_handlers(recent: Recent, guard: Guard) -> list[ControllerRouterHandler]:
    """The two handlers."""

    @get("/admin/requests", guards=[guard], sync_to_thread=False)
    def some(  # noqa: PLR0913 - each a parameter of the query
        route: FromQuery[str | None] = None,
        status: FromQuery[str | None] = None,
        outcome: FromQuery[str | None] = None,
        caller: FromQuery[str | None] = None,
        cache: FromQuery[str | None] = None,
        before: FromQuery[str | None] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=200)] = 50,
    ) -> Json:
        """Calls that are over, the last one first. `status` is one, or a class such as `5xx`; `cache` the verdict or how
        it begins. `next`, where there are more, is the `before` of the next page.
        """
        fits = _filter(route=route, status=status, outcome=outcome, caller=caller, cache=cache)
        found = list(islice(filter(fits, _older(recent.latest(), before)), limit + 1))
        following = found[limit - 1].id if len(found) > limit else None
        return {"requests": [summary(record) for record in found[:limit]], "next": following}

    @get("/admin/requests/{call_id:str}", guards=[guard], sync_to_thread=False)
    def one(call_id: FromPath[str]) -> Json:
        """Why one call went the way it did, while it is remembered: its record, and `decisions` in their order."""
        record = recent.find(call_id)
        if record is None:
            raise UnknownCall(f"Call {call_id[:64]} is not among the recent ones.", param="id")
        return {**msgspec.to_builtins(record), "decisions": msgspec.to_builtins(decisions(record))}

    return [some, one]


def summary(record: Record) -> Json:
    """What a list shows of a call: times in seconds, money in nano-USD."""
    usage = record.usage
    return {
        "id": record.id,
        "at": record.started,
        "endpoint": record.endpoint,
        "caller": record.caller,
        "route": record.route,
        "model": record.upstream_model or record.model,
        "provider": record.provider,
        "stream": record.stream,
        "status": record.status,
        "outcome": record.outcome,
        "error": record.error,
        "cache": record.cache,
        "guard": record.guard,
        "attempts": len(record.attempts),
        "fallbacks": record.fallbacks,
        "tokens": usage.prompt + usage.completion if usage is not None else None,
        "cost": record.cost,
        "saved": record.saved,
        "first_content": record.first_content,
        "duration": record.duration,
    }


def _older(records: Iterator[Record], call_id: str | None) -> Iterator[Record]:
    """Those that ended before this call; none when it is forgotten, and they with it."""
    if call_id is not None:
        for record in records:
            if record.id == call_id:
                break
    return records


def _filter(*, status: str | None, cache: str | None, **wanted: str | None) -> Callable[[Record], bool]:
    def fits(record: Record) -> bool:
        return (
            all(value is None or getattr(record, name) == value for name, value in wanted.items())
            and (status is None or _has_status(record.status, status))
            and (cache is None or record.cache.startswith(cache))
        )

    return fits


def _has_status(status: int, wanted: str) -> bool:
    return wanted in (str(status), f"{status // 100}xx")


def newest(records: Iterable[Record], since: str, most: int) -> list[Json]:
    """Summaries of the calls after `since`, at most so many, the last one first."""
    found: list[Json] = []
    for record in records:
        if record.id == since or len(found) == most:
            break
        found.append(summary(record))
    return found
