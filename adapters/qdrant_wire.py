"""The bodies of the few Qdrant REST calls that are made, as in its published OpenAPI."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from proxy.entries import Entry, Scored, Selection, StoreUnavailable

Json = dict[str, Any]


class _Payload(msgspec.Struct):
    partition: str
    route: str
    fingerprint: str
    body: str
    created: int
    expires_at: int
    meta: dict[str, Any] = {}


class _Point(msgspec.Struct):
    id: str
    payload: _Payload
    score: float = 0.0


class _Points(msgspec.Struct):
    points: list[_Point]


class _Retrieved(msgspec.Struct):
    result: list[_Point]


class _Queried(msgspec.Struct):
    result: _Points


class _Count(msgspec.Struct):
    count: int


class _Counted(msgspec.Struct):
    result: _Count


_retrieved = msgspec.json.Decoder(_Retrieved)
_queried = msgspec.json.Decoder(_Queried)
_counted = msgspec.json.Decoder(_Counted)


def point(entry: Entry) -> Json:
    """A point to upsert."""
    return {
        "id": entry.id,
        "vector": {} if entry.vector is None else list(entry.vector),
        "payload": {
            "partition": entry.partition,
            "route": entry.route,
            "fingerprint": entry.fingerprint,
            "body": entry.body.decode(),
            "created": entry.created,
            "expires_at": entry.expires_at,
            "meta": entry.meta,
        },
    }


def condition(selection: Selection) -> Json:
    """The filter that means the same."""
    must: list[Json] = [
        {"key": name, "match": {"value": value}}
        for name, value in (
            ("partition", selection.partition),
            ("route", selection.route),
            ("fingerprint", selection.fingerprint),
        )
        if value is not None
    ]
    if selection.ids is not None:
        must.append({"has_id": list(selection.ids)})
    if selection.created_before is not None:
        must.append({"key": "created", "range": {"lt": selection.created_before}})
    if selection.expired_at is not None:
        must.append({"key": "expires_at", "range": {"lte": selection.expired_at}})
    return {"must": must}


def question(  # noqa: PLR0913 - one question, by name
    vector: Sequence[float], *, partition: str, fingerprint: str, now: int, limit: int, floor: float
) -> Json:
    """A query for the nearest points that have not expired."""
    same = condition(Selection(partition=partition, fingerprint=fingerprint))
    same["must"].append({"key": "expires_at", "range": {"gt": now}})
    return {"query": list(vector), "filter": same, "limit": limit, "score_threshold": floor, "with_payload": True}


def read_retrieved(body: bytes) -> list[Entry]:
    """The points of an answer to a retrieval. Raises StoreUnavailable for anything else."""
    return [_entry(each) for each in _read(_retrieved, body).result]


def read_queried(body: bytes) -> list[Scored]:
    """The points of an answer to a query. Raises StoreUnavailable for anything else."""
    return [Scored(_entry(each), each.score) for each in _read(_queried, body).result.points]


def read_counted(body: bytes) -> int:
    """The number in an answer to a count. Raises StoreUnavailable for anything else."""
    return int(_read(_counted, body).result.count)


def _read(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise StoreUnavailable(f"its answer is not Qdrant's: {error}") from error


def _entry(found: _Point) -> Entry:
    payload: Mapping[str, Any] = msgspec.structs.asdict(found.payload)
    return Entry(**{**payload, "id": found.id.replace("-", ""), "body": found.payload.body.encode()})
