"""Brings what the outbox holds into the ledger, beside the calls, and looks after leases and old rows."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from proxy.accounts import Accounts
from proxy.call import Record
from proxy.health import State
from proxy.ledger import expire, prune, settle
from proxy.outbox import Outbox, Reader
from proxy.schema_steps import DatabaseAwayError, RefusedError
from proxy.sql import Store

logger = logging.getLogger("lockgate")

_LINGER = 0.2
"""Seconds that a record waits for others: a transaction costs more than a record in it."""
_BATCH = 200
"""Records of a transaction, for which a call that reserves may have to wait a millisecond or two."""
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
_END = 4.0
"""Seconds to settle what is left at the end; what then remains is settled after the next start."""
_PRUNE_EVERY = 3600.0


class Bookkeeper:
    """The ledger's reader of the outbox, as a service. While the database is away records wait in the outbox.

    `keep` are the seconds for which single calls are remembered, `lease` those after which one of which nothing is
    heard counts as crashed. `now` is Unix time.
    """

    def __init__(  # noqa: PLR0913 - collaborators, by name
        self,
        store: Store,
        outbox: Outbox,
        accounts: Accounts,
        *,
        keep: float,
        lease: float,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = store.name
        self.skipped = 0
        """Records that the database would not take."""
        self._store = store
        self._outbox = outbox
        self._accounts = accounts
        self._keep = keep
        self._lease = lease
        self._now = now
        self._sleep = sleep
        self._reader: Reader | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._pruned = 0.0

    async def start(self) -> None:
        """Open the database and begin where the last instance in this state folder ended. Raises OSError."""
        await self._store.start()
        self._reader = self._outbox.reader(self.name)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._read(self._reader)), loop.create_task(self._tend(self._reader))]
        for task in self._tasks:
            task.add_done_callback(_tell)

    async def aclose(self) -> None:
        """Settle what there is, for a few seconds at most, and let the database go."""
        if self._reader is not None and self._tasks:
            self._reader.close()
            reading, tending = self._tasks
            tending.cancel()
            await asyncio.wait([reading], timeout=_END)
            reading.cancel()
            await asyncio.wait(self._tasks)
            self._tasks = []
        await self._store.aclose()

    def state(self) -> State:
        """`degraded` while the database is away, or once it refused a record; `down` if we ourselves failed."""
        over = any(task.done() for task in self._tasks)
        return "down" if over else "degraded" if self.skipped else self._store.state()

    async def tend(self, *, caught_up: bool) -> None:
        """Renew the leases of calls in flight; settle those that ran out, unless their records may still be on the
        way; forget old rows. Raises DatabaseAwayError.
        """
        await self._accounts.renew()
        if caught_up:
            crashed = await self._store.run(partial(expire, now=self._now()))
            if crashed:
                logger.warning("%d calls were never heard of again and cost what was reserved for them", crashed)
        if self._keep and self._now() - self._pruned > _PRUNE_EVERY:
            self._pruned = self._now()
            await self._store.run(partial(prune, before=self._now() - self._keep))

    async def _read(self, reader: Reader) -> None:
        async for batch in reader.batches(_BATCH, _LINGER):
            await self._settle([record for _, record in batch])
            reader.commit(batch[-1][0])

    async def _settle(self, records: Sequence[Record]) -> None:
        """Until it is done, however long the database is away; a record that it will not take is passed over."""
        tries = 0
        while True:
            try:
                await self._store.run(partial(settle, records=records))
            except DatabaseAwayError:
                await self._sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
                tries += 1
            except RefusedError as error:
                if len(records) == 1:
                    self.skipped += 1
                    logger.error("call %s cannot be entered into the ledger: %s", records[0].id, error)  # noqa: TRY400 - no traceback to show
                    return
                middle = len(records) // 2
                await self._settle(records[:middle])
                records = records[middle:]
            else:
                return

    async def _tend(self, reader: Reader) -> None:
        while True:
            with contextlib.suppress(DatabaseAwayError, RefusedError):
                await self.tend(caught_up=reader.lag == 0)
            await self._sleep(self._lease / 4)


def _tell(task: asyncio.Task[None]) -> None:
    """Say why a task ended that should not have."""
    if not task.cancelled() and task.exception() is not None:
        logger.error("the ledger stands still", exc_info=task.exception())
