"""One shard of Qdrant's embedded engine: a folder, and the few calls that are made to it.

Every call holds the interpreter (LIBRARIES §2), so each is small: pages, never a whole shard. `optimize` is never
called, and `flush` only by closing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import qdrant_edge as edge

from proxy.entries import Entry, Selection, StoreUnavailable

PAGE = 64
"""How many points one call touches: about a millisecond."""
_VECTOR = "v"
_FORM = edge.VectorStorageDatatype.Turbo16
"""Half the bytes of single floats, and half the time of a search; similarities differ in the sixth digit."""
_INDEXES = {
    "partition": edge.PayloadSchemaType.Keyword,
    "route": edge.PayloadSchemaType.Keyword,
    "fingerprint": edge.PayloadSchemaType.Keyword,
    "created": edge.PayloadSchemaType.Integer,
    "expires_at": edge.PayloadSchemaType.Integer,
}


class _Calling:
    """Around a call of the engine: what it raises, as StoreUnavailable. Nothing else may happen inside."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        # it raises bare Exception, and its panics are no Exception at all
        if error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
            raise StoreUnavailable(f"the engine failed: {error!s:.200}") from error


_calling = _Calling()
_meta = msgspec.json.Decoder(dict[str, Any]).decode


class Shard:
    """A shard that is open. Only one process can have it open. `dims` 0 keeps no vectors.

    Every method raises StoreUnavailable when the engine fails: then what is on disk is not to be trusted.
    """

    def __init__(self, folder: Path, dims: int) -> None:
        self.folder = folder
        self.writes = 0
        """How many entries were put since it was opened, and how many were there then."""
        with _calling:
            self._engine = _load(folder, dims) if folder.exists() else _create(folder, dims)
            self.writes = self._engine.info().points_count

    def get(self, entry_id: str) -> Entry | None:
        """The entry, expired or not."""
        with _calling:
            records = self._engine.retrieve([entry_id], with_payload=True, with_vector=False)
        return _entry(entry_id, records[0].payload) if records else None

    def get_all(self, ids: Sequence[str]) -> list[Entry]:
        """Those of these entries that are there, in any order, expired or not."""
        with _calling:
            records = self._engine.retrieve(list(ids), with_payload=True, with_vector=False)
        return [_entry(_hex(each.id), each.payload) for each in records]

    def put(self, entries: Sequence[Entry]) -> None:
        """Store entries; each has a vector if the shard has."""
        points = [
            edge.Point(each.id, {} if each.vector is None else {_VECTOR: list(each.vector)}, _payload(each))
            for each in entries
        ]
        with _calling:
            self._engine.update(edge.UpdateOperation.upsert_points(points))
        self.writes += len(points)

    def nearest(
        self, vector: Sequence[float], *, fingerprint: str, limit: int, floor: float
    ) -> list[tuple[str, float]]:
        """Ids and similarities of the nearest entries of this fingerprint, best first, expired ones among them.

        One condition and no payload: at 10,000 entries of one fingerprint two more conditions cost eight times the
        search, and each payload as much as reading the entry ten times.
        """
        wanted = edge.Filter(must=[edge.FieldCondition("fingerprint", match=edge.MatchValue(fingerprint))])
        with _calling:
            points = self._engine.query(
                edge.QueryRequest(
                    limit=limit,
                    query=edge.Query.Nearest(list(vector), using=_VECTOR),
                    filter=wanted,
                    with_payload=False,
                    score_threshold=floor,
                )
            )
        return [(_hex(point.id), point.score) for point in points]

    def ids(self) -> Iterator[str]:
        """The ids of all its entries."""
        offset = None
        while True:
            with _calling:
                records, offset = self._engine.scroll(
                    edge.ScrollRequest(offset=offset, limit=1000, with_payload=False, with_vector=False)
                )
            yield from (_hex(record.id) for record in records)
            if offset is None:
                return

    def find(self, selection: Selection, limit: int = PAGE) -> list[str]:
        """The ids of some entries that are meant; empty when there are none."""
        with _calling:
            records, _ = self._engine.scroll(
                edge.ScrollRequest(filter=_filter(selection), limit=limit, with_payload=False, with_vector=False)
            )
        return [_hex(record.id) for record in records]

    def remove(self, ids: Sequence[str]) -> None:
        """Remove these entries."""
        with _calling:
            self._engine.update(edge.UpdateOperation.delete_points(list(ids)))

    def amend(self, entry_id: str, meta: Mapping[str, Any]) -> None:
        """Set members of an entry's meta; does nothing when it is not there."""
        entry = self.get(entry_id)
        if entry is not None:
            changed = {"meta": _text({**entry.meta, **meta})}
            with _calling:
                self._engine.update(edge.UpdateOperation.set_payload([entry_id], changed))

    def count(self, selection: Selection) -> int:
        """How many entries are meant."""
        with _calling:
            return self._engine.count(edge.CountRequest(exact=True, filter=_filter(selection)))

    def close(self) -> None:
        """Write everything to disk and let the folder go: tens of milliseconds."""
        with _calling:
            self._engine.close()


def dims_of(folder: Path) -> int | None:
    """The length of the vectors in a folder's shard, 0 for none; None when that cannot be read."""
    try:
        size = _vectors_in(folder)["size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return 0 if size == 1 else int(size)


def _vectors_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "edge_config.json").read_text(encoding="utf-8"))["vectors"][_VECTOR]
    return found


def _config(dims: int, form: edge.VectorStorageDatatype | None) -> edge.EdgeConfig:
    # the engine wants one vector at least; points need not have it
    vectors = {_VECTOR: edge.EdgeVectorParams(size=dims or 1, distance=edge.Distance.Cosine, datatype=form)}
    # each shard has a pool of its own, and one segment to search
    return edge.EdgeConfig(vectors=vectors, max_search_threads=1)


def _load(folder: Path, dims: int) -> edge.EdgeShard:
    try:
        form = _FORM if "datatype" in _vectors_in(folder) else None  # earlier versions kept single floats
    except (OSError, ValueError, KeyError, TypeError):
        form = None  # the engine says what is wrong
    return edge.EdgeShard.load(str(folder), _config(dims, form))


def _create(folder: Path, dims: int) -> edge.EdgeShard:
    folder.mkdir(mode=0o700, parents=True)
    shard = edge.EdgeShard.create(str(folder), _config(dims, _FORM if dims else None))
    for name, kind in _INDEXES.items():
        if dims or name != "fingerprint":  # only queries look for it, and each index costs every put
            shard.update(edge.UpdateOperation.create_field_index(name, kind))
    return shard


def _hex(point_id: int | str | UUID) -> str:
    return point_id.hex if isinstance(point_id, UUID) else str(point_id).replace("-", "")


def _payload(entry: Entry) -> dict[str, Any]:
    return {
        "partition": entry.partition,
        "route": entry.route,
        "fingerprint": entry.fingerprint,
        "body": entry.body.decode(),
        "created": entry.created,
        "expires_at": entry.expires_at,
        "meta": _text(entry.meta),  # objects cost the engine more than text does: a fifth of every put
    }


def _entry(entry_id: str, payload: Mapping[str, Any] | None) -> Entry:
    """An entry as it was put. Raises StoreUnavailable for one that is none."""
    try:
        kept = payload or {}
        meta = kept.get("meta", {})
        return Entry(
            id=entry_id,
            partition=kept["partition"],
            route=kept["route"],
            fingerprint=kept["fingerprint"],
            body=kept["body"].encode(),
            created=kept["created"],
            expires_at=kept["expires_at"],
            meta=_meta(meta) if isinstance(meta, str) else meta,  # earlier versions kept an object
        )
    except (AttributeError, KeyError, TypeError, msgspec.DecodeError) as error:
        raise StoreUnavailable(f"an entry is damaged: {error}") from error


def _text(meta: Mapping[str, Any]) -> str:
    return msgspec.json.encode(meta).decode()


def _filter(selection: Selection) -> edge.Filter | None:
    must: list[Any] = [
        edge.FieldCondition(name, match=edge.MatchValue(value))
        for name, value in (
            ("partition", selection.partition),
            ("route", selection.route),
            ("fingerprint", selection.fingerprint),
        )
        if value is not None
    ]
    if selection.ids is not None:
        must.append(edge.HasIdCondition(set(selection.ids)))
    if selection.created_before is not None:
        must.append(edge.FieldCondition("created", range=edge.RangeFloat(lt=selection.created_before)))
    if selection.expired_at is not None:
        must.append(edge.FieldCondition("expires_at", range=edge.RangeFloat(lte=selection.expired_at)))
    return edge.Filter(must=must) if must else None
