"""Members and roles under the names that one deployment's model knows."""

from collections.abc import Mapping

import msgspec

from proxy.call import Call
from proxy.chain import Handler
from proxy.reply import Reply
from proxy.wire import Members, Raw

RENAMES = frozenset(
    {
        ("max_tokens", "max_completion_tokens"),
        ("max_completion_tokens", "max_tokens"),
        ("developer", "system"),
        ("system", "developer"),
    }
)
"""What can be renamed: a member that two generations of models call differently, and a role likewise."""
_ROLES = ("developer", "system")
_LISTS = ("messages", "input")
"""Members that hold messages with roles."""

_items = msgspec.json.Decoder(list[dict[str, Raw]])
_encode = msgspec.json.Encoder().encode


class Rename:
    """Renames what the deployment of each attempt says, so that a fallback starts from what the client sent.

    Where both names of a member stand in a call, the new one counts. Everything else stays byte for byte.
    """

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """Pass the attempt on under the deployment's names."""
        deployment = call.deployment or call.route.deployments[0]
        changed = renamed(call.head.members, deployment.rename) if deployment.rename else None
        if changed is None:
            return await next(call)
        members, names = changed
        record = call.record
        record.changed = [*record.changed, *(name for name in names if name not in record.changed)]
        return await next(call.replace(head=call.head.with_members(members)))


def renamed(members: Members, names: Mapping[str, str]) -> tuple[Members, list[str]] | None:
    """The members under their new names, and which of them changed; None when none did."""
    out, changed = dict(members), []
    for old, new in names.items():
        if old in _ROLES:
            for name in _LISTS:
                value = _with_role(out[name], old, new) if name in out else None
                if value is not None:
                    out[name] = value
                    changed.append(name)
        elif old in out:
            value = out.pop(old)
            out.setdefault(new, value)
            changed.append(old)
    return (out, changed) if changed else None


def _with_role(value: Raw, old: str, new: str) -> Raw | None:
    """The list with one role in place of another; None when it is not there."""
    quoted = f'"{old}"'.encode()
    raw = bytes(value)
    if quoted not in raw or not raw.startswith(b"["):
        return None
    try:
        items = _items.decode(raw)
    except msgspec.DecodeError:  # not messages: the provider will say so
        return None
    found = [item for item in items if bytes(item.get("role", b"")) == quoted]
    for item in found:
        item["role"] = Raw(f'"{new}"'.encode())
    return Raw(_encode(items)) if found else None
