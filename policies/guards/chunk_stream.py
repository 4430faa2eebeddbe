"""Streams of chat and legacy completion chunks under guards, event by event.

What is held back of a text leaves with a later event of the same choice, at the latest in a chunk of its own before
the one that finishes it. A simple event from which nothing may leave yet is not sent.
"""

from typing import Any, Final

from policies.guards.answer import Answer, Json, Slot, Text, spelled
from policies.guards.report import Told
from policies.guards.whole import FILTERED, decode_answer, encode_answer
from proxy.sse import DONE_ITEM, frame

_DATA: Final = b"data: "
_END: Final = b"\n\n"
_GROWING: Final = frozenset(
    {
        "content",
        "text",
        "refusal",
        "reasoning",
        "reasoning_content",
        "thinking",
        "arguments",
        "input",
        "summary",
        "transcript",
    }
)
"""Members that come in pieces; any other text of a chunk is a whole one."""
Path = tuple[str | int, ...]


class Choice:
    """What is known of one choice: its texts, by their path, and log probabilities that wait until theirs may leave."""

    __slots__ = ("finished", "logprobs", "texts")

    def __init__(self) -> None:
        self.texts: dict[Path, Text] = {}
        self.finished = False
        self.logprobs: list[tuple[list[tuple[Text, int]], Json]] = []

    def is_blocked(self) -> bool:
        """Whether one of its texts was cut off."""
        return any(text.blocked is not None for text in self.texts.values())

    def take_logprobs(self, choice: Json, fed: list[Text]) -> None:
        """Let log probabilities leave no sooner than the text they spell; and none once anything was redacted."""
        if choice.get("logprobs"):
            self.logprobs.append(([(text, text.fed) for text in fed], choice["logprobs"]))
        if not self.logprobs:
            return
        ready: list[Json] = []
        while self.logprobs and all(text.settled >= end for text, end in self.logprobs[0][0]):
            ready.append(self.logprobs.pop(0)[1])
        clean = not any(text.changed for text in self.texts.values())
        choice["logprobs"] = _joined(ready) if ready and clean else None

    def take_sound(self, delta: Any) -> None:
        """Let no more sound leave once anything was redacted: it says what the text said."""
        sound = delta.get("audio") if isinstance(delta, dict) else None
        if isinstance(sound, dict) and sound.get("data") and any(text.changed for text in self.texts.values()):
            sound["data"] = ""


class Mould:
    """The form of the last simple event: the next one most often differs from it only in its text."""

    __slots__ = ("head", "least", "tail", "text")

    def __init__(self, head: bytes, tail: bytes, text: Text) -> None:
        self.head, self.tail, self.text = head, tail, text
        self.least = len(head) + len(tail)

    def fill(self, said: str) -> bytes:
        """The event with this text."""
        if said.isprintable() and '"' not in said and "\\" not in said:
            return b"%b%b%b" % (self.head, said.encode(), self.tail)
        return b"%b%b%b" % (self.head[:-1], encode_answer(said), self.tail[1:])


class ChunkStream:
    """Takes the items of one stream, and says which items are to be sent instead. `member` holds a choice's texts."""

    def __init__(self, answer: Answer, member: str) -> None:
        self._answer, self._member = answer, member
        self._where = "message" if member == "delta" else member
        self._choices: dict[int, Choice] = {}
        self._mould: Mould | None = None
        self._last: Json = {}
        """The last chunk that was decoded: new ones are made after it."""
        self.ended = False
        """Whether a guard has ended the stream: what is left upstream is not read."""
        self.shift = 0
        """Numbered events that were put in; chunks have no numbers."""

    def take(self, item: bytes) -> list[bytes]:
        """The items for this one."""
        mould = self._mould
        if mould is not None and len(item) > mould.least and item.startswith(mould.head) and item.endswith(mould.tail):
            raw = item[len(mould.head) : -len(mould.tail)]
            if b'"' not in raw and b"\\" not in raw:
                return self._quick(item, mould, raw.decode())
        if item == DONE_ITEM:
            return self._leftovers()
        return self._decoded(item) if item.startswith(_DATA) else [item]

    def _quick(self, item: bytes, mould: Mould, text: str) -> list[bytes]:
        said = mould.text.feed(text)
        if not self._answer.acts:
            return [item]
        items = [mould.fill(said)] if said else []
        return items if mould.text.blocked is None else self.block(items)

    def _decoded(self, item: bytes) -> list[bytes]:
        chunk = decode_answer(item[len(_DATA) : -len(_END)])
        choices = chunk.get("choices") if isinstance(chunk, dict) else None
        if not choices:
            return [item]
        self._last, self._mould = chunk, None
        before: list[bytes] = []
        for choice in choices:
            where = f"choices[{choice['index']}].{self._where}"
            found = self._answer.slots(choice, self._member, where) if choice.get(self._member) else []
            simple = len(choices) == len(found) == 1 and not (choice.get("finish_reason") or choice.get("logprobs"))
            said = found[0].text if simple else ""
            text = self._guard(choice, found, before)
            if simple and text is not None:
                self._mould = _mould(item, said, text)
        if not self._answer.acts:
            return [item]
        if any(state.is_blocked() for state in self._choices.values()):
            for choice in choices:
                choice["finish_reason"] = None
                self._choices[choice["index"]].finished = False
            return self.block([*before, frame(encode_answer(chunk))])
        return [*before, frame(encode_answer(chunk))]

    def _guard(self, choice: Json, found: list[Slot], before: list[bytes]) -> Text | None:
        """One choice of a chunk, in place; its last growing text. What is left of others goes `before` the chunk."""
        state = self._choices.setdefault(choice["index"], Choice())
        fed: dict[Path, Slot] = {}
        for slot in found:
            text = self._text(choice["index"], state, slot.path)
            growing = slot.path in state.texts
            slot.put(text.feed(slot.text, last=not growing))
            if growing:
                fed[slot.path] = slot
        if choice.get("finish_reason"):
            state.finished = True
            for path, text in state.texts.items():
                rest = text.feed("", last=True)
                if rest and path in fed:
                    fed[path].put(fed[path].text + rest)
                elif rest:
                    before.append(self._made(choice["index"], path, rest))
        state.take_logprobs(choice, [state.texts[path] for path in fed])
        state.take_sound(choice.get(self._member))
        return state.texts[next(reversed(fed))] if fed else None

    def _text(self, index: int, state: Choice, path: Path) -> Text:
        text = state.texts.get(path)
        if text is None:
            text = self._answer.text(f"choices[{index}].{self._where}{spelled(path[1:])}")
            if path[-1] in _GROWING:
                state.texts[path] = text
        return text

    def _leftovers(self) -> list[bytes]:
        """At the end of a stream that has not finished its choices: what was held back."""
        items = []
        for index, state in self._choices.items():
            for path, text in state.texts.items():
                rest = text.feed("", last=True)
                if rest:
                    items.append(self._made(index, path, rest))
        if not self._answer.acts:
            return [DONE_ITEM]
        blocked = any(state.is_blocked() for state in self._choices.values())
        return self.block(items) if blocked else [*items, DONE_ITEM]

    def told(self) -> list[Told]:
        """What was found."""
        return self._answer.told()

    def block(self, items: list[bytes]) -> list[bytes]:
        """These items, then a chunk for each choice that says a filter ended it."""
        self.ended = True
        closing: Any = "" if self._member == "text" else {}
        ends = [
            self._chunk(_closing(self._member, index, closing))
            for index, state in self._choices.items()
            if not state.finished
        ]
        return [*items, *ends, DONE_ITEM]

    def refuse(self) -> list[bytes]:
        """The whole stream when nothing of it may be said, because of what somebody said who was asked."""
        closing: Any = "" if self._member == "text" else {"role": "assistant", "content": ""}
        self.ended = True
        ends = [self._chunk(_closing(self._member, index, closing)) for index in self._choices]
        return [*ends, DONE_ITEM]

    def _made(self, index: int, path: Path, text: str) -> bytes:
        """A chunk with nothing but this text."""
        value: Any = text
        for step in reversed(path[1:]):
            value = {step: value} if isinstance(step, str) else [{"index": step, **value}]
        return self._chunk({"index": index, self._member: value, "logprobs": None, "finish_reason": None})

    def _chunk(self, choice: Json) -> bytes:
        chunk = {name: value for name, value in self._last.items() if name not in ("choices", "usage", "obfuscation")}
        chunk["choices"] = [choice]
        if "usage" in self._last:
            chunk["usage"] = None
        return frame(encode_answer(chunk))


def _mould(item: bytes, said: str, text: Text) -> Mould | None:
    """The form of an event around its one text; None when that cannot be told from the rest."""
    raw = encode_answer(said)
    if b"\\" in raw or item.count(raw) != 1:
        return None
    start = item.index(raw) + 1
    return Mould(item[:start], item[start + len(raw) - 2 :], text)


def _closing(member: str, index: int, said: Any) -> Json:
    return {"index": index, member: said, "logprobs": None, "finish_reason": FILTERED}


def _joined(parts: list[Json]) -> Json:
    """Log probabilities of several events as those of one."""
    if len(parts) == 1:
        return parts[0]
    joined: Json = {}
    for part in parts:
        for name, value in part.items():
            known = joined.get(name)
            joined[name] = known + value if isinstance(known, list) and isinstance(value, list) else value or known
    return joined
