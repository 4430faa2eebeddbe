"""Streams of the Responses API under guards. Every event is sent, with nothing in it where all of its text must wait.

Later events repeat a text that came in pieces: they say what the pieces said. What is held back when a text is done
leaves in one more delta, and the numbers of all later events count it.
"""

from typing import Any, Final

from policies.guards.answer import Answer, Json, Slot, Text
from policies.guards.report import Told
from policies.guards.verdict import finish
from policies.guards.whole import decode_answer, drop_echoes, encode_answer, end_response, guard_all
from proxy.sse import frame

_DATA: Final = b"data: "
_NUMBER: Final = "sequence_number"
_OPAQUE: Final = ("response.audio.delta", "response.output_audio.delta")
_OPENING: Final = ("response.created", "response.in_progress")
_PLACE: Final = ("item_id", "output_index", "content_index", "summary_index")
_HOLD_TEXT: Final = ("item", "part", "text", "refusal", "arguments", "input", "transcript", "code", "delta", "output")
"""Members of an event that may hold text; of its `response` only the output is the model's."""


class Growing:
    """A text that comes in deltas: what came, what has left of it, and log probabilities that wait for their text."""

    __slots__ = ("done", "event", "heard", "logprobs", "sent", "text")

    def __init__(self, text: Text) -> None:
        self.text = text
        self.event: Json = {}
        self.heard: list[str] = []
        self.sent: list[str] = []
        self.logprobs: list[tuple[int, list[Any]]] = []
        self.done = False

    def take(self, event: Json) -> None:
        """One delta, in place."""
        self.event = event
        self.heard.append(event["delta"])
        event["delta"] = self.text.feed(event["delta"])
        self.sent.append(event["delta"])
        self._take_logprobs(event)

    def rest(self) -> Json | None:
        """One more delta with what was held back, when the text is done."""
        self.done = True
        rest = self.text.feed("", last=True)
        if not rest:
            return None
        self.sent.append(rest)
        event = {name: value for name, value in self.event.items() if name != "obfuscation"}
        event["delta"] = rest
        if "logprobs" in event:
            event["logprobs"] = []
            self._take_logprobs(event)
        return event

    def _take_logprobs(self, event: Json) -> None:
        """Let log probabilities leave no sooner than the text they spell; and none once anything was redacted."""
        if event.get("logprobs"):
            self.logprobs.append((self.text.fed, event["logprobs"]))
        if "logprobs" in event:
            ready = [each for end, listed in self.logprobs if end <= self.text.settled for each in listed]
            self.logprobs = [each for each in self.logprobs if each[0] > self.text.settled]
            event["logprobs"] = [] if self.text.changed else ready


class ResponseStream:
    """Takes the items of one stream, and says which items are to be sent instead."""

    def __init__(self, answer: Answer) -> None:
        self._answer, self._repeats = answer, answer.again()
        self._growing: dict[tuple[object, ...], Growing] = {}
        self._known: dict[str, str] = {}
        """What was said of each text that came in pieces and is done."""
        self._response: Json = {}
        self._items: dict[int, Json] = {}
        """Output items as they were last sent, by their index."""
        self._opening: list[bytes] = []
        self._next = 0
        self.ended = False
        """Whether a guard has ended the stream: what is left upstream is not read."""
        self.shift = 0
        """Numbered events that were put in."""

    def take(self, item: bytes) -> list[bytes]:
        """The items for this one."""
        _, found, data = item.partition(_DATA)
        event: Any = decode_answer(data) if found else None
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            return [item]
        kind: str = event["type"]
        if kind in _OPAQUE:
            items = [self._framed(kind, self._sound(event))]
        elif kind.endswith(".delta") and isinstance(event.get("delta"), str):
            items = self._delta(kind, event)
        else:
            items = self._other(kind, event)
        return items if self._answer.acts else [item]

    def told(self) -> list[Told]:
        """What was found; in texts that did not come in pieces only where nothing was found in those that did."""
        told = self._answer.told()
        known = {each.guard for each in told}
        return told + [each for each in self._repeats.told() if each.guard not in known]

    def _sound(self, event: Json) -> Json:
        """A piece of sound, of which there is no more once anything was redacted: it says what the text said."""
        self._answer.unread[f"{_where(event)}.data"] = None
        if any(growing.text.changed for growing in self._growing.values()):
            event["delta"] = ""
        return event

    def _delta(self, kind: str, event: Json) -> list[bytes]:
        key = _key(kind.removesuffix(".delta"), event)
        growing = self._growing.get(key)
        if growing is None:
            growing = self._growing[key] = Growing(self._answer.text(_where(event)))
        growing.take(event)
        items = [self._framed(kind, event)]
        return items if growing.text.blocked is None else self.block(items)

    def _other(self, kind: str, event: Json) -> list[bytes]:
        items: list[bytes] = []
        growing = self._growing.get(_key(kind.removesuffix(".done"), event)) if kind.endswith(".done") else None
        if growing is not None and not growing.done:
            rest = growing.rest()
            if rest is not None:
                rest[_NUMBER] = self._next
                self._next, self.shift = self._next + 1, self.shift + 1
                items.append(frame(encode_answer(rest), f"{kind.removesuffix('.done')}.delta".encode()))
            if growing.text.blocked is not None:
                return self.block(items)
            self._known["".join(growing.heard)] = "".join(growing.sent)
        response = event.get("response")
        parts = [(response, "output")] if isinstance(response, dict) else [(event, name) for name in _HOLD_TEXT]
        if not self._guard(parts):
            return self.block(items)
        self._response = response if isinstance(response, dict) else self._response
        if isinstance(event.get("item"), dict) and isinstance(event.get("output_index"), int):
            self._items[event["output_index"]] = event["item"]
        items.append(self._framed(kind, event))
        if kind in _OPENING:
            self._opening += items
        return items

    def _guard(self, parts: list[tuple[Json, str]]) -> bool:
        """Texts that are there at once, in place; false when one of them is to be cut off."""
        for container, name in parts:
            if not container.get(name):
                continue
            new: list[Slot] = []
            changed = False
            where = "output" if name == "output" else _where(container)
            for slot in self._answer.slots(container, name, where):
                said = self._known.get(slot.text)
                if said is None:
                    new.append(slot)
                elif said != slot.text:
                    slot.put(said)
                    changed = True
            found, ended = finish(guard_all(self._repeats, "", new))
            if ended:
                return False
            if found or changed:
                drop_echoes(container)
        return True

    def block(self, items: list[bytes]) -> list[bytes]:
        """These items, then the event that says a filter ended the response."""
        self.ended = True
        said: dict[int, list[str]] = {}
        for growing in self._growing.values():
            if growing.event.get("type") == "response.output_text.delta":
                said.setdefault(growing.event.get("output_index", 0), []).append("".join(growing.sent))
        output = []
        for index, item in sorted(self._items.items()):
            if item.get("type") == "message" and item.get("status") != "completed":
                content = [{"type": "output_text", "text": text, "annotations": []} for text in said.get(index, [])]
                output.append({**item, "content": content})
            else:
                output.append(item)
        response = {**self._response}
        end_response(response, output)
        event = {"type": "response.incomplete", _NUMBER: self._next, "response": response}
        return [*items, frame(encode_answer(event), b"response.incomplete")]

    def refuse(self) -> list[bytes]:
        """The whole stream when nothing of it may be said, because of what somebody said who was asked."""
        self._items, self._growing, self._next = {}, {}, len(self._opening)
        return self.block(self._opening)

    def _framed(self, kind: str, event: Json) -> bytes:
        if isinstance(event.get(_NUMBER), int):
            event[_NUMBER] += self.shift
            self._next = event[_NUMBER] + 1
        return frame(encode_answer(event), kind.encode())


def _where(event: Json) -> str:
    """Where what an event speaks of stands in the answer."""
    place = "".join(f".{name}[{event[name]}]" for name in _PLACE[1:] if isinstance(event.get(name), int))
    return place.removeprefix(".").replace("_index", "")


def _key(kind: str, event: Json) -> tuple[object, ...]:
    return (kind, *(event.get(name) for name in _PLACE))
