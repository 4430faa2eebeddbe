"""What the semantic cache has in its hands for as long as the instance lives: store, embedder, counts, and tallies."""

import hashlib
import math
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from policies.cache_kept import Hit, Served
from policies.cache_store import Store
from policies.cache_writer import CacheWriter
from policies.embedder import Embedder
from policies.reranker import Reranker
from proxy.entries import Entry, Selection, StoreUnavailable

TIER = "semantic"
_PARTITIONS = 10_000
_REVIEWS = 200
_Z = 1.96
_STEP = 0.02
_FEWEST = 10
"""Checks before which nothing is concluded."""
_HIGHEST = 0.98
_SHOWN = 300
_WRONGS = 100
"""Texts that one entry remembers it must not answer."""
_REMEMBERED = 90 * 86400
"""Seconds for which that is remembered after the last of them, whatever becomes of the entry."""


class SemanticCounts(msgspec.Struct):
    """What became of the calls that came to the semantic cache, since the instance started."""

    hits: int = 0
    misses: int = 0
    unfit: int = 0
    """Not compared, because of what they are or say."""
    bypassed: int = 0
    """Asked not to look."""
    loading: int = 0
    """The embedder's model was being loaded."""
    busy: int = 0
    """The embedder had too much to do."""
    unavailable: int = 0
    """Embedder or store did not answer."""
    candidates: int = 0
    rejected: int = 0
    """Candidates that the pair guard did not let pass, or that were not similar enough for how close they were."""
    guard_errors: int = 0
    not_reranked: int = 0
    """Lookups for which the reranker had no score."""
    shadow_hits: int = 0
    """Would have been served, were it not for shadow mode."""
    stored: int = 0
    not_kept: int = 0
    checked: int = 0
    """Hits that were asked again upstream."""
    disagreed: int = 0
    check_failed: int = 0
    not_judged: int = 0
    """Checks for which the judge had no word."""
    reported: int = 0
    """Hits that a caller called wrong."""


class Tally(msgspec.Struct):
    """What the checks of one partition's hits say. What callers report is no sample, and counted apart."""

    checked: int = 0
    wrong: int = 0
    reported: int = 0
    raised: float = 0.0
    """How much more similarity than calibrated a hit needs."""
    off: bool = False

    def bounds(self) -> tuple[float, float]:
        """The 95 % interval of the share of wrong hits (Wilson 1927)."""
        return wilson(self.wrong, self.checked)


class Review(msgspec.Struct, frozen=True):
    """One hit that seems wrong, for people to look at."""

    call: str
    partition: str
    entry: str
    similarity: float
    asked: str
    stored: str
    why: str


class Tallies:
    """The tallies of the partitions, and the hits to be reviewed.

    `most_wrong` is the share of wrong hits that is put up with: when even the lower bound of a partition's share is
    over it, its threshold is raised by a step and the tally begins anew; past the highest threshold it is turned off.
    """

    def __init__(self) -> None:
        self._tallies: OrderedDict[str, Tally] = OrderedDict()
        self.reviews: deque[Review] = deque(maxlen=_REVIEWS)

    def of(self, partition: str) -> Tally:
        """The tally of a partition."""
        return self._tallies.get(partition) or Tally()

    def note(self, partition: str, *, wrong: bool, most_wrong: float, threshold: float) -> None:
        """Count one hit that was checked; `threshold` is the similarity it needed before that was raised here."""
        tally = self._noted(partition)
        tally.checked += 1
        tally.wrong += wrong
        if tally.checked >= _FEWEST and tally.bounds()[0] > most_wrong:
            tally.checked = tally.wrong = 0
            tally.raised += _STEP
            tally.off = threshold + tally.raised > _HIGHEST

    def report(self, partition: str) -> None:
        """Count one hit that a caller called wrong."""
        self._noted(partition).reported += 1

    def _noted(self, partition: str) -> Tally:
        tally = self._tallies.setdefault(partition, Tally())
        self._tallies.move_to_end(partition)
        if len(self._tallies) > _PARTITIONS:
            self._tallies.popitem(last=False)
        return tally

    def stats(self) -> list[dict[str, Any]]:
        """Every partition that has a tally, for the operator."""
        return [
            {"partition": name, **msgspec.structs.asdict(tally), "interval": tally.bounds()}
            for name, tally in self._tallies.items()
        ]


def wilson(found: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share; all of it when nothing was counted."""
    if not count:
        return 0.0, 1.0
    share = found / count
    centre = share + _Z * _Z / (2 * count)
    spread = _Z * math.sqrt(share * (1 - share) / count + _Z * _Z / (4 * count * count))
    return max(0.0, (centre - spread) / (1 + _Z * _Z / count)), min(1.0, (centre + spread) / (1 + _Z * _Z / count))


class Pair(msgspec.Struct, frozen=True):
    """What is to be known of a hit should it turn out wrong."""

    asked: str
    stored: str
    similarity: float
    partition: str
    route: str
    threshold: float


class Asked(NamedTuple):
    """One eligible call as it is looked up."""

    text: str
    key: bytes
    partition: str

    @property
    def entry(self) -> str:
        """The id of the entry for its answer."""
        return hashlib.sha256(self.key + unicodedata.normalize("NFC", self.text).encode()).hexdigest()[:32]


class SemanticKept(msgspec.Struct, frozen=True):
    """The semantic cache's. `now` is Unix time."""

    store: Store
    embedder: Embedder
    writer: CacheWriter
    served: Served
    counts: SemanticCounts
    tallies: Tallies
    now: Callable[[], float]
    reranker: Reranker | None = None

    async def stats(self) -> dict[str, Any]:
        """For the operator; `entries` is None while the store is unavailable."""
        try:
            entries: int | None = await self.store.count()
        except StoreUnavailable:
            entries = None
        return {
            **msgspec.structs.asdict(self.counts),
            "writes": {"done": self.writer.done, "failed": self.writer.failed, "dropped": self.writer.dropped},
            "embedder": self.embedder.id,
            "partitions": self.tallies.stats(),
            "reviews": [msgspec.structs.asdict(each) for each in self.tallies.reviews],
            "entries": entries,
        }

    async def clear(self, selection: Selection) -> int:
        """Remove what is meant; how many that were. Raises StoreUnavailable."""
        await self.writer.emptied()
        return await self.store.delete(selection)

    async def twin(self, hit: Hit) -> str | None:
        """The entry of the exact cache with the same answer, if there was one and the question was the same text, so
        that it is the answer that is wrong. Raises StoreUnavailable.
        """
        if not isinstance(hit.about, Pair) or hit.about.asked != hit.about.stored:
            return None
        await self.writer.emptied()
        entry = (await self.store.get((hit.entry,))).get(hit.entry)
        return None if entry is None else entry.meta.get("twin")

    async def wrong(self, hit: Hit) -> None:
        """A caller says that this hit was wrong: the pair is not served again.

        Raises StoreUnavailable.
        """
        self.counts.reported += 1
        if isinstance(hit.about, Pair):
            self.tallies.report(hit.about.partition)
            await self.part(hit.entry, hit.about)
            self.review(hit.about, hit.entry, call="", why="reported")

    async def part(self, entry: str, pair: Pair) -> None:
        """Never answer this text from this entry again, nor from what is stored in its place. An entry that was stored
        for this very text goes: its answer is wrong, and the next one may be right.

        Raises StoreUnavailable.
        """
        if pair.asked == pair.stored:
            await self.store.delete(Selection(ids=(entry,)))
            return
        told = digest(pair.asked)
        wrong = [*(each for each in await self.wrongs(entry) if each != told), told][-_WRONGS:]
        await self.store.amend(entry, {"wrong": wrong})
        # the entry is replaced when its question is asked anew, and ends; so this stands beside it
        now = int(self.now())
        mark = Entry(
            id=_mark(entry),
            partition=pair.partition,
            route=pair.route,
            fingerprint=_mark(entry),
            body=b"",
            created=now,
            expires_at=now + _REMEMBERED,
            vector=[1.0] + [0.0] * (self.store.dims - 1),
            meta={"wrong": wrong},
        )
        await self.store.put([mark])

    async def wrongs(self, entry: str) -> list[str]:
        """Digests of the texts that the entry of this id must not answer. Raises StoreUnavailable."""
        mark = (await self.store.get((_mark(entry),))).get(_mark(entry))
        return [] if mark is None else list(mark.meta["wrong"])

    def review(self, pair: Pair, entry: str, *, call: str, why: str) -> None:
        """Keep a hit that seems wrong for people to look at."""
        self.tallies.reviews.append(
            Review(call, pair.partition, entry, pair.similarity, pair.asked[:_SHOWN], pair.stored[:_SHOWN], why)
        )


def digest(text: str) -> str:
    """A short name for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _mark(entry: str) -> str:
    """The id of what is remembered beside an entry; as a fingerprint no call has it."""
    return hashlib.sha256(b"wrong " + entry.encode()).hexdigest()[:32]
