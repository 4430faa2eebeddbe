"""One answer under the guards of its call: a stream of characters for each of its texts, and what was found in all."""

from typing import Any, Final, NamedTuple

from policies.guards.asked import Http, Own
from policies.guards.length import Length
from policies.guards.plan import Plan
from policies.guards.prompt_leak import PromptLeak
from policies.guards.report import Told, done_about
from policies.guards.settings import Setting
from policies.guards.spans import Finder, SpanGuard, Stream
from policies.guards.texts import KEY, Leaf, Unit, leaves_of

Json = dict[str, Any]
_ACTIVE: Final[tuple[Setting, ...]] = ("redact", "block")
_REFERENCES: Final = ("file_id", "encrypted_content", "embedding")
"""No text, and nothing that says anything to whoever reads the answer."""


class Limit(NamedTuple):
    """How many characters a text may have, which guard of the plan says so, and whether the text ends there."""

    chars: int
    guard: int
    ends: bool


class Watched:
    """A stream whose length is limited, or that is kept because somebody has to be asked about it in the end."""

    __slots__ = ("_end", "_limits", "_stream", "heard", "too_long")

    def __init__(self, stream: Stream, limits: tuple[Limit, ...]) -> None:
        """`limits` are in order, the lowest first."""
        self._stream, self._limits = stream, limits
        self._end = next((limit for limit in limits if limit.ends), None)
        self.heard: list[str] = []
        self.too_long: tuple[Limit, ...] = ()
        """The limits that it went beyond."""

    @property
    def blocked(self) -> int | None:
        """As of a stream; the limit stands after the other guards."""
        return self._end.guard if self._end in self.too_long and self._end is not None else self._stream.blocked

    @property
    def changed(self) -> bool:
        """As of a stream."""
        return self._stream.changed or self.blocked is not None

    @property
    def settled(self) -> int:
        """As of a stream."""
        return self._stream.settled

    @property
    def fed(self) -> int:
        """As of a stream."""
        return self._stream.fed

    @property
    def inner(self) -> Stream:
        """The stream itself."""
        return self._stream

    def feed(self, chunk: str, *, last: bool = False) -> str:
        """As of a stream; what is too long ends at the limit."""
        if self.blocked is not None:
            return ""
        self.heard.append(chunk)
        fed = self._stream.fed + len(chunk)
        if self._end is not None and fed > self._end.chars:
            rest, fed = self._end.chars - self._stream.fed, self._end.chars + 1
            self.too_long = tuple(limit for limit in self._limits if limit.chars < fed)
            return self._stream.feed(chunk[:rest], last=True)
        if self._limits and fed > self._limits[0].chars:
            self.too_long = tuple(limit for limit in self._limits if limit.chars < fed)
        return self._stream.feed(chunk, last=last)


Text = Stream | Watched


class Answer:
    """The texts of one answer. `prompt` is what `prompt_leak` protects."""

    def __init__(self, plan: Plan, prompt: str, unread: dict[str, None] | None = None) -> None:
        self.plan, self._prompt = plan, prompt
        self.unread: dict[str, None] = {} if unread is None else unread
        """Where it holds what is no text: sound, images."""
        finders: list[Finder] = []
        self._places: list[int] = []
        """Which guard of the plan each finder belongs to."""
        limits: list[Limit] = []
        for index, installed in enumerate(plan.guards):
            guard = installed.guard.of(prompt) if isinstance(installed.guard, PromptLeak) else installed.guard
            if isinstance(guard, SpanGuard):
                finders.append(guard.finder)
                self._places.append(index)
            elif isinstance(guard, Length):
                limits.append(Limit(guard.limit, index, installed.setting in _ACTIVE))
        self._finders = tuple(finders)
        self._settings = tuple(plan.guards[index].setting for index in self._places)
        self._limits = tuple(sorted(limits))
        self.asks = any(isinstance(installed.guard, Http | Own) for installed in plan.guards)
        asked = [each.setting for each in plan.guards if isinstance(each.guard, Http | Own)]
        self.waits = any(setting in _ACTIVE for setting in asked)
        """Whether nothing may leave before somebody was asked about all of it."""
        self.acts = any(installed.setting in _ACTIVE for installed in plan.guards)
        """Whether anything can be changed; if not, the texts are only watched."""
        self.texts: list[tuple[str, Text]] = []
        """Every text so far, and where it stands."""

    def again(self) -> "Answer":
        """The same guards over other texts."""
        return Answer(self.plan, self._prompt, self.unread)

    def slots(self, container: Any, key: str | int, where: str) -> list["Slot"]:
        """Every text in one part of the answer, which stands at `where`; what is none is noted."""
        unread: list[tuple[str | int, ...]] = []
        found = slots(container, key, unread)
        for path in unread:
            if path[-1] not in _REFERENCES:
                self.unread[where + spelled(path[1:])] = None
        return found

    def text(self, where: str) -> Text:
        """A new text."""
        stream = Stream(self._finders, self._settings)
        text = Watched(stream, self._limits) if self._limits or self.asks else stream
        self.texts.append((where, text))
        return text

    def told(self) -> list[Told]:
        """What was found, by guard and text."""
        found = []
        for where, text in self.texts:
            stream = text.inner if isinstance(text, Watched) else text
            for place, counts in enumerate(stream.found):
                if counts:
                    found.append(self._told(self._places[place], where, tuple(sorted(counts)), stream.first[place]))
            if isinstance(text, Watched):
                found += [self._told(limit.guard, where, ("length",), "") for limit in text.too_long]
        return found

    def _told(self, index: int, where: str, reasons: tuple[str, ...], text: str) -> Told:
        done = done_about(self.plan.guards[index].setting, blocks=True)
        return Told(index, done, where, 1.0, reasons, text)

    def units(self) -> tuple[Unit, ...]:
        """The texts as they were heard, for those that are asked."""
        return tuple(
            Unit(where, "assistant", (Leaf((where,), said),))
            for where, text in self.texts
            if isinstance(text, Watched) and (said := "".join(text.heard))
        )


class Slot:
    """A text in a decoded answer that can be replaced there.

    Its path is from the part that it was looked for in; where the members of a list are numbered by themselves (the
    tool calls of a chunk), by that number.
    """

    __slots__ = ("_key", "_parent", "path", "text")

    def __init__(self, parent: Any, key: str | int, path: tuple[str | int, ...], text: str) -> None:
        self._parent, self._key, self.path, self.text = parent, key, path, text

    def put(self, text: str) -> None:
        """Replace it."""
        self._parent[self._key] = self.text = text


def slots(container: Any, key: str | int, unread: list[tuple[str | int, ...]] | None = None) -> list[Slot]:
    """Every text in one part of an answer; names, media and opaque members are left out, and `unread` has their places."""
    found = []
    for leaf in leaves_of((key,), container[key], unread):
        if leaf.path[-1] == KEY:
            continue
        parent, path = container, list[str | int]()
        for step in leaf.path[:-1]:
            parent = parent[step]
            number = parent.get("index") if isinstance(step, int) and isinstance(parent, dict) else None
            path.append(number if isinstance(number, int) else step)
        found.append(Slot(parent, leaf.path[-1], (*path, leaf.path[-1]), leaf.text))
    return found


def spelled(path: tuple[str | int, ...]) -> str:
    """A path in words: `.message.tool_calls[0].function.arguments`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
