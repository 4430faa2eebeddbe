"""The texts of a request: every string that a model could read, with whose it is and where it stands.

What is known to be no text is left out by name; everything else counts, so that a member nobody here has heard of is
scanned too. Images, audio, files and token ids are not read: they are listed, so that nobody takes them for scanned.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, Final

import msgspec

from policies.guards.verdict import Role
from proxy.call import Call
from proxy.errors import BadRequest
from proxy.wire import Members, Raw

Path = tuple[str | int, ...]

_ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_SETTINGS: Final = frozenset(
    {
        "model",
        "user",
        "metadata",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",
        "reasoning_effort",
        "reasoning",
        "stream_options",
        "logit_bias",
        "modalities",
        "include",
        "truncation",
        "verbosity",
        "encoding_format",
        "cache",
        "audio",
    }
)
"""Top-level members that no model reads as text."""
_OF_THE_DEVELOPER: Final = frozenset({"response_format", "text", "tool_choice", "stop", "web_search_options"})
_NAMES: Final = frozenset(
    {"role", "type", "id", "call_id", "tool_call_id", "status", "object", "name", "detail", "format", "phase", "index"}
)
"""Members that hold a name, as long as what they hold looks like one."""
_NAME: Final = re.compile(r"[\w.:/+-]{0,128}", re.ASCII)
_MEDIA: Final = frozenset(
    {
        "image_url",
        "input_audio",
        "audio",
        "audio_url",
        "video_url",
        "input_video",
        "file_data",
        "file_url",
        "file_id",
        "b64_json",
        "encrypted_content",
        "partial_image_b64",
        "embedding",
    }
)
_OF_MEDIA: Final = frozenset({"id", "url", "data"})
_OF_SCHEMAS: Final = frozenset({"type", "description", "anyOf", "oneOf", "allOf", "$ref"})
SPOKEN: Final = "transcript"
"""What a piece of audio says, where it stands beside it."""
_LONGEST_NAME: Final = 64
"""Characters of a member's name; a longer one, or one with a blank, is a text that a schema may carry to the model."""
KEY: Final = "\0name"
"""Ends the path of a leaf that is the name of a member: it cannot be replaced."""
_TEXTUAL: Final = (b'"', b"[", b"{")


def _no_number(_digits: str) -> None:
    """Numbers are no text, and some are too large for any float."""


_decode: Final = msgspec.json.Decoder(float_hook=_no_number).decode
_encode: Final = msgspec.json.Encoder().encode
_parts: Final = msgspec.json.Decoder(list[Raw])
_members: Final = msgspec.json.Decoder(dict[str, Raw])


class Leaf(msgspec.Struct, frozen=True, gc=False):
    """One string and its place in the body: the top-level member's name, then names and indexes."""

    path: Path
    text: str


class Unit(msgspec.Struct, frozen=True):
    """Strings that are judged as one: those of one member of one message. `where` names it as an error's `param`."""

    where: str
    role: Role
    leaves: tuple[Leaf, ...]

    @property
    def text(self) -> str:
        """All of it, in order."""
        return self.leaves[0].text if len(self.leaves) == 1 else "\n".join(leaf.text for leaf in self.leaves)

    @property
    def seamless(self) -> str:
        """Parts of one message as a model reads them that is given no break between them; empty where that is the same."""
        leaves = self.leaves
        if len(leaves) == 1 or len({_place(leaf.path) for leaf in leaves}) > 1:
            return ""
        cut = any(not (one.text[-1].isspace() or other.text[0].isspace()) for one, other in pairwise(leaves))
        return "".join(leaf.text for leaf in leaves) if cut else ""


def _place(path: Path) -> Path:
    """The same for members of one list, and for what they hold under one name."""
    return tuple(step for step in path if isinstance(step, str))


class Texts(msgspec.Struct, frozen=True):
    """What a request says; `unread` are the places of what is no text."""

    units: tuple[Unit, ...]
    unread: tuple[str, ...] = ()


class _Reader:
    """Collects units. One a request."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self.unread: list[str] = []

    def add(self, where: str, role: Role, path: Path, value: Any) -> None:
        """Everything in `value` as one unit."""
        if isinstance(value, str):
            if value:
                self.units.append(Unit(where, role, (Leaf(path, value),)))
            return
        unread: list[Path] = []
        leaves = tuple(leaves_of(path, value, unread))
        if unread:
            self.unread.append(where)
        if leaves:
            self.units.append(Unit(where, role, leaves))

    def messages(self, member: str, value: Any) -> None:
        """A list of messages or of items of the Responses API."""
        for index, message in enumerate(value if isinstance(value, list) else [value]):
            where, path = f"{member}[{index}]", (member, index)
            if not isinstance(message, dict):
                self.add(where, "user", path, message)
                continue
            role = _role(message)
            for name, part in message.items():
                if name in _NAMES and isinstance(part, str) and _NAME.fullmatch(part):
                    continue
                if part and is_media(name, part, message):
                    self.unread.append(f"{where}.{name}")
                    if isinstance(part, dict) and part.get(SPOKEN):
                        self.add(f"{where}.{name}.{SPOKEN}", role, (*path, name, SPOKEN), part[SPOKEN])
                elif part:
                    self.add(f"{where}.{name}", role, (*path, name), part)

    def strings(self, member: str, value: Any, role: Role) -> None:
        """A string or a list of strings; token ids, and lists of them, are not read."""
        if not isinstance(value, list):
            self.add(member, role, (member,), value)
            return
        for index, each in enumerate(value):
            if isinstance(each, int) or (isinstance(each, list) and each and isinstance(each[0], int)):
                self.unread.append(member)
                return
            self.add(f"{member}[{index}]", role, (member, index), each)


def leaves_of(path: Path, value: Any, unread: list[Path] | None = None) -> Iterator[Leaf]:
    """Every string in a value, in order, and into `unread` the places of what is none.

    Without recursion: clients nest as deeply as they like.
    """
    waiting: list[tuple[Path, Any]] = [(path, value)]
    while waiting:
        at, part = waiting.pop()
        if isinstance(part, str):
            if part:
                yield Leaf(at, part)
        elif isinstance(part, list):
            waiting += [((*at, index), part[index]) for index in range(len(part) - 1, -1, -1)]
        elif isinstance(part, dict):
            waiting += reversed(list(_members_of(at, part, unread)))


def _members_of(at: Path, part: dict[str, Any], unread: list[Path] | None) -> Iterator[tuple[Path, Any]]:
    for name, each in part.items():
        if name in _NAMES and isinstance(each, str) and _NAME.fullmatch(each):
            continue
        if each and is_media(name, each, part):
            if unread is not None:
                unread.append((*at, name))
            if isinstance(each, dict) and each.get(SPOKEN):
                yield (*at, name, SPOKEN), each[SPOKEN]
            continue
        if len(name) > _LONGEST_NAME or " " in name:
            yield (*at, name, KEY), name
        yield (*at, name), each


def read_texts(call: Call) -> Texts:
    """All of them, in the order of the body. Raises BadRequest when a member is no valid JSON after all."""
    reader = _Reader()
    responses, embeddings = call.endpoint.name == "responses", call.endpoint.name == "embeddings"
    for member, raw in call.head.members.items():
        kind = bytes(raw)[:1]
        if member in _SETTINGS or kind not in _TEXTUAL:
            continue
        value = _decoded(raw, member)
        if member == "messages" or (member == "input" and responses and kind == b"["):
            reader.messages(member, value)
        elif member in ("tools", "functions") and kind == b"[":
            for index, tool in enumerate(value):
                reader.add(f"{member}[{index}]", "tool", (member, index), tool)
        elif member in ("prompt", "input"):
            reader.strings(member, value, "tool" if embeddings else "user")  # what is embedded is a document
        elif member == "instructions":
            reader.add(member, "system", (member,), value)
        else:
            reader.add(member, "developer" if member in _OF_THE_DEVELOPER else "user", (member,), value)
    return Texts(tuple(reader.units), tuple(dict.fromkeys(reader.unread)))


def system_prompt(call: Call) -> str:
    """What the operator told the model: `instructions`, and the messages of system and developer."""
    return "\n".join(unit.text for unit in read_texts(call).units if _is_prompt(unit))


def _is_prompt(unit: Unit) -> bool:
    return unit.role in ("system", "developer") and unit.leaves[0].path[0] not in _OF_THE_DEVELOPER


def replaced(members: Members, texts: Iterable[Leaf]) -> Members:
    """Members with these strings in their places; everything around them stays byte for byte as it was sent."""
    changed = dict(members)
    for leaf in texts:
        changed[str(leaf.path[0])] = Raw(_put(changed[str(leaf.path[0])], leaf.path[1:], leaf.text))
    return changed


def _put(raw: Raw, path: Path, text: str) -> bytes:
    if not path:
        return _encode(text)
    if isinstance(path[0], int):
        parts = _parts.decode(raw)
        parts[path[0]] = Raw(_put(parts[path[0]], path[1:], text))
        return _encode(parts)
    members = _members.decode(raw)
    members[path[0]] = Raw(_put(members[path[0]], path[1:], text))
    return _encode(members)


def _role(message: dict[str, Any]) -> Role:
    """Whose a message or item is; who knows what it is was said by the user."""
    role, kind = message.get("role"), message.get("type")
    if isinstance(role, str):
        return _ROLES.get(role, "user")
    if isinstance(kind, str):
        if kind.endswith("_output") or kind.startswith("mcp_"):
            return "tool"
        if kind.endswith("_call") or kind == "reasoning":
            return "assistant"
    return "user"


def is_media(name: str, value: Any, owner: dict[str, Any]) -> bool:
    """Whether a member of `owner` is no text. One that bears such a name and describes itself is a part of a schema."""
    if name in _MEDIA:
        return not (isinstance(value, dict) and _OF_SCHEMAS & value.keys() and not _OF_MEDIA & value.keys())
    if name == "data":
        return any(each in owner for each in ("media_type", "mime_type", "mimeType", "format", SPOKEN))
    return name == "result" and owner.get("type") == "image_generation_call"


def _decoded(raw: Raw, member: str) -> Any:
    try:
        return _decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}.", param=member, code="invalid_json") from None
