"""From which similarity on an answer may be served, for each embedder: measured, shipped, made anew by a command. And
from which score of a reranker.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
import yaml

from policies.pair_guard.compare import Closeness, PairGuard
from policies.reranker import Reranker

Embed = Callable[[str], Awaitable[Sequence[float]]]

_FILE: Final = Path(__file__).with_name("calibrations.json")
_PAIRS: Final = Path(__file__).with_name("calibration_pairs.yaml")
_NEVER: Final = 2.0
"""Above every similarity."""
_UNRELATED: Final = 0.999
_SAME: Final = 0.02
_NEAR: Final = 0.2
_ACROSS: Final = 0.25
_FLOOR: Final = 0.70
_OVER: Final = 0.01


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The least similarity for pairs that the pair guard calls `same`, `near` or `across` two languages."""

    same: float
    near: float
    across: float

    def threshold(self, closeness: Closeness) -> float:
        """What a pair of this closeness needs; more than 1 for `open` and `different`."""
        return {"same": self.same, "near": self.near, "across": self.across}.get(closeness, _NEVER)


class Shipped(msgspec.Struct, frozen=True):
    """A calibration with what it was made of."""

    calibration: Calibration
    command: str
    pairs: int


def shipped(embedder: str) -> Calibration | None:
    """The calibration that comes with the gateway for this embedder, if there is one."""
    known = msgspec.json.decode(_FILE.read_bytes(), type=dict[str, Shipped])
    found = known.get(embedder)
    return found.calibration if found is not None else None


class Pairs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`calibration_pairs.yaml`: pairs of texts, parted by a bar."""

    version: int
    same: dict[str, list[str]]
    across: list[str]
    different: dict[str, list[str]]
    rephrased: dict[Literal["same", "different"], list[str]]

    @classmethod
    def load(cls) -> "Pairs":
        """As shipped."""
        return msgspec.convert(yaml.safe_load(_PAIRS.read_text(encoding="utf-8")), cls)


async def measure(embed: Embed, guard: PairGuard, languages: Sequence[str], pairs: Pairs) -> tuple[Calibration, int]:
    """A calibration for an embedder of these languages (none given: all), and from how many pairs.

    `guard` is one that lets answers cross languages. Raises what `embed` raises.
    """

    async def similarities(lines: Sequence[str]) -> list[float]:
        found = []
        for line in lines:
            one, other = line.split(" | ")
            found.append(_dot(await embed(one), await embed(other)))
        return found

    def of(table: Mapping[str, list[str]]) -> list[str]:
        return [line for name, lines in table.items() if not languages or name in languages for line in lines]

    both = not languages or {"en", "fr"} <= set(languages)
    duplicates, across = of(pairs.same), pairs.across if both else []
    different = of(pairs.different) + (pairs.different["across"] if both and languages else [])
    passed = [line for line in different if guard.judge(*line.split(" | ")).closeness in ("near", "across")]
    unrelated = [
        f"{one} | {other}"
        for name, lines in pairs.same.items()
        if not languages or name in languages
        for k, one in enumerate(line.split(" | ")[0] for line in lines)
        for other in (line.split(" | ")[1] for line in lines[k + 1 :])
    ]
    found = fit(
        duplicates=await similarities(duplicates),
        across=await similarities(across),
        unrelated=await similarities(unrelated),
        traps=await similarities(passed),
    )
    return found, len(duplicates) + len(across) + len(different)


def fit(
    *, duplicates: Sequence[float], across: Sequence[float], unrelated: Sequence[float], traps: Sequence[float]
) -> Calibration:
    """A calibration from the similarities of pairs with the same answer, in one language and across two, of pairs that
    have nothing to do with each other, and of traps that the pair guard let pass as near or across.

    Thresholds are quantiles, since embedders differ in scale: `same` is over nearly all unrelated pairs, and under
    nearly all duplicates where that is possible; `near` is over all traps and a fifth of the duplicates.
    """
    same = max(_quantile(unrelated, _UNRELATED), min(_quantile(duplicates, _SAME), _FLOOR))
    near = max(same, _quantile(duplicates, _NEAR), *(each + _OVER for each in traps))
    return Calibration(
        same=round(same, 3),
        near=round(near, 3),
        across=round(max(same, _quantile(across, _ACROSS)), 3) if across else _NEVER,
    )


class Ranking(msgspec.Struct, frozen=True):
    """The score from which a reranker may be believed, more than 1 for never, and how many paraphrases reach it."""

    threshold: float
    reached: int
    count: int


async def rank(reranker: Reranker, pairs: Pairs) -> Ranking:
    """Over the score of every pair with different answers. Raises what the reranker raises."""

    async def scores(lines: Sequence[str]) -> list[float]:
        split = [line.split(" | ") for line in lines]
        return [(await reranker.scores(one, [other]))[0] for one, other in split]

    threshold = round(max(await scores(pairs.rephrased["different"])) + _OVER, 3)
    same = await scores(pairs.rephrased["same"])
    return Ranking(threshold, sum(each >= threshold for each in same), len(same))


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(one, other, strict=True))


def as_yaml(calibration: Calibration) -> str:
    """What to put into the configuration."""
    facts: Mapping[str, float] = msgspec.structs.asdict(calibration)
    return "calibration: {" + ", ".join(f"{name}: {value:g}" for name, value in facts.items()) + "}"
