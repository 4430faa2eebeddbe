"""Collections of cache entries on a Qdrant server, by a few REST calls of our own over the transport."""

import asyncio
import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, cast

import msgspec

from adapters.qdrant_wire import condition, point, question, read_counted, read_queried, read_retrieved
from adapters.transport import Request, Transport, TransportError
from proxy.config import Qdrant
from proxy.entries import EVERYTHING, Entry, Scored, Selection, StoreUnavailable

logger = logging.getLogger("lockgate")

_OK = 200
_OURS = frozenset({400, 413, 422})
"""Statuses that find fault with one request and say nothing of the server."""
_PAGE = 64
_UNHURRIED = 5.0
"""Seconds for what no call waits for."""
_PATIENCE = 1.0
"""Seconds that a start waits for it."""
_SWEEP = 60.0
State = Literal["ok", "degraded", "down"]
_encode = msgspec.json.Encoder().encode


class Administration(Protocol):
    """Makes and drops collections: `qdrant_admin.QdrantAdmin`."""

    async def ensure(self, name: str, dims: int) -> None:
        """Make the collection where it is missing. Raises StoreUnavailable; OSError for one of another length."""
        ...

    async def drop(self, name: str) -> bool:
        """Drop the collection; whether there was one. Raises StoreUnavailable."""
        ...

    async def aclose(self) -> None:
        """Close its connections."""
        ...


class QdrantServer:
    """One server as a service of the instance.

    When it is away, or too slow, every question is refused at once until it has proved well again: that is tried
    each `cool_down`, in the background, so no call pays for the trial. `transport` is closed with it.
    """

    name = "qdrant"
    kind = "server"

    def __init__(
        self,
        config: Qdrant,
        transport: Transport,
        now: Callable[[], float],
        make_admin: Callable[[str, str], Administration] | None = None,
    ) -> None:
        self._config = config
        self._url = config.url.rstrip("/")
        self._transport = transport
        self._now = now
        self._make_admin = make_admin or _client
        self._admin: Administration | None = None
        key = config.api_key.reveal()
        self._headers = {"content-type": "application/json", **({"api-key": key} if key else {})}
        self._collections: dict[str, ServerCollection] = {}
        self._well = False
        self._task: asyncio.Task[None] | None = None

    def collection(self, name: str, dims: int) -> "ServerCollection":
        """The collection of this name; to be asked for before the start."""
        full = self._config.prefix + name
        return self._collections.setdefault(full, ServerCollection(self, full, dims, self._now))

    async def start(self) -> None:
        """Make the collections; a server that is away is waited for in the background. Raises OSError."""
        self._admin = await asyncio.to_thread(self._make_admin, self._url, self._config.api_key.reveal())
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._ensure()
        except (StoreUnavailable, TimeoutError) as error:
            logger.warning("the Qdrant server is not there, the caches are bypassed until it is: %s", error)
        self._task = asyncio.get_running_loop().create_task(self._look_after())

    async def aclose(self) -> None:
        """Close the connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._admin is not None:
            await self._admin.aclose()
        await self._transport.aclose()

    def state(self) -> State:
        """Degraded while it is away."""
        return "ok" if self._well else "degraded"

    async def ask(self, method: str, path: str, body: object, *, hurried: bool) -> bytes:
        """One call. Raises StoreUnavailable, at once while the server is away."""
        if not self._well:
            raise StoreUnavailable("the Qdrant server is away")
        timeout = self._config.timeout if hurried else _UNHURRIED
        request = Request(
            url=f"{self._url}/collections/{path}",
            headers=self._headers,
            body=_encode(body),
            method=method,
            connect=timeout,
            total=timeout,
        )
        try:
            answer = await self._transport.send(request)
        except TransportError as error:
            raise self._away(str(error)) from error
        if answer.status == _OK:
            return answer.body
        why = f"{answer.status} {answer.body[:200].decode(errors='replace')}"
        raise StoreUnavailable(why) if answer.status in _OURS else self._away(why)

    def _away(self, why: str) -> StoreUnavailable:
        if self._well:
            logger.warning("the Qdrant server failed, the caches are bypassed until it is well: %s", why)
        self._well = False
        return StoreUnavailable(why)

    async def _ensure(self) -> None:
        if self._admin is not None:
            for each in self._collections.values():
                await self._admin.ensure(each.name, each.dims)
        self._well = True

    async def _look_after(self) -> None:
        swept = self._now()
        while True:
            await asyncio.sleep(self._config.cool_down)
            try:
                if not self._well:
                    await self._ensure()
                    logger.info("the Qdrant server is well again")
                if self._now() - swept >= _SWEEP:
                    swept = self._now()
                    for each in self._collections.values():
                        await each.sweep()
            except StoreUnavailable:
                continue  # said when it went away
            except OSError as error:
                logger.error("the Qdrant server cannot be used: %s", error)  # noqa: TRY400 - no traceback to show


class ServerCollection:
    """One collection: implements the caches' Store. `now` is Unix time."""

    def __init__(self, server: QdrantServer, name: str, dims: int, now: Callable[[], float]) -> None:
        self.name = name
        self.dims = dims
        self._server = server
        self._now = now

    async def get(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Those that are there."""
        now = self._now()
        body = {"ids": list(ids), "with_payload": True, "with_vector": False}
        found = read_retrieved(await self._ask("POST", "points", body, hurried=True))
        return {each.id: each for each in found if each.expires_at > now}

    def get_now(self, _entry_id: str) -> Entry | None:
        """None: a server has to be waited for."""
        return None

    async def put(self, entries: Sequence[Entry]) -> None:
        """Store them, without waiting until they can be found."""
        for entry in entries:
            if len(entry.vector or ()) != self.dims:
                raise ValueError(f"a vector of length {len(entry.vector or ())} in a collection for {self.dims}")
        for start in range(0, len(entries), _PAGE):
            points = [point(each) for each in entries[start : start + _PAGE]]
            await self._ask("PUT", "points?wait=false", {"points": points})

    async def query(
        self, vector: Sequence[float], *, partition: str, fingerprint: str, limit: int, floor: float
    ) -> list[Scored]:
        """The nearest."""
        now = int(self._now())
        body = question(vector, partition=partition, fingerprint=fingerprint, now=now, limit=limit, floor=floor)
        return read_queried(await self._ask("POST", "points/query", body, hurried=True))

    async def amend(self, entry_id: str, meta: Mapping[str, Any]) -> None:
        """Set members of its meta; by a filter, since a point that is not there would be an error."""
        body = {"payload": meta, "key": "meta", "filter": condition(Selection(ids=(entry_id,)))}
        await self._ask("POST", "points/payload?wait=true", body)

    async def delete(self, selection: Selection) -> int:
        """Count, then remove."""
        count = await self.count(selection)
        if count:
            await self._ask("POST", "points/delete?wait=true", {"filter": condition(selection)})
        return count

    async def count(self, selection: Selection = EVERYTHING) -> int:
        """Count them."""
        body = {"filter": condition(selection), "exact": True}
        return read_counted(await self._ask("POST", "points/count", body))

    async def sweep(self) -> None:
        """Remove what has expired."""
        expired = Selection(expired_at=int(self._now()))
        await self._ask("POST", "points/delete?wait=true", {"filter": condition(expired)})

    async def _ask(self, method: str, path: str, body: object, *, hurried: bool = False) -> bytes:
        return await self._server.ask(method, f"{self.name}/{path}", body, hurried=hurried)


def _client(url: str, api_key: str) -> Administration:
    make = importlib.import_module("adapters.qdrant_admin").QdrantAdmin
    return cast("Administration", make(url, api_key))
