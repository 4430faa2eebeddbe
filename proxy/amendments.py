"""What a record that is written again has more than when it was counted."""

from collections import OrderedDict

from proxy.call import Outcome, Record, Usage

_REMEMBERED = 1000
_NOTHING = Usage()


class Amendments:
    """Remembers the calls that may still turn out dearer: those whose clients left before all was known."""

    def __init__(self) -> None:
        self._counted: OrderedDict[str, tuple[Outcome | None, Usage, int]] = OrderedDict()

    def remember(self, record: Record) -> None:
        """Keep what was counted of a call that did not end as complete."""
        self._counted[record.id] = (record.outcome, record.usage or _NOTHING, record.cost or 0)
        if len(self._counted) > _REMEMBERED:
            self._counted.popitem(last=False)

    def news(self, record: Record) -> tuple[bool, Usage, int]:
        """Whether a record that is amended ended otherwise than it had seemed; the tokens and the nano-USD that it has
        more. Of a call that had seemed complete all tokens were counted.
        """
        before = self._counted.pop(record.id, None)
        if before is None:
            return True, _NOTHING, 0
        outcome, usage, cost = before
        return record.outcome != outcome, _more(record.usage or _NOTHING, usage), max(0, (record.cost or 0) - cost)


def _more(after: Usage, before: Usage) -> Usage:
    return Usage(
        prompt=max(0, after.prompt - before.prompt),
        completion=max(0, after.completion - before.completion),
        cached=max(0, after.cached - before.cached),
        cache_write=max(0, after.cache_write - before.cache_write),
        reasoning=max(0, after.reasoning - before.reasoning),
        audio=max(0, after.audio - before.audio),
    )
