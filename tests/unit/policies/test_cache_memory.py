import json

from support.calls import Clock

from policies.cache_answers import Stored
from policies.cache_memory import Facts, Memory, Ready
from proxy.endpoints import CHAT
from proxy.entries import Selection


def ready(name: str, size: int = 1000, **facts: object) -> Ready:
    message = {"role": "assistant", "content": "x" * size}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    given = {"id": name, "partition": "p", "route": "r", "created": 0.0, "expires_at": 100.0, **facts}
    return Ready(CHAT, Stored("whole", json.dumps(answer).encode()), Facts(**given))  # type: ignore[arg-type]


def test_it_never_holds_more_than_its_limit() -> None:
    """The unused go first; what alone is too large is not taken; a stream made ready counts as well."""
    memory = Memory(7000, Clock(0.0))
    for name in "abc":
        memory.put(ready(name))
    assert memory.get("a") is not None
    memory.put(ready("d"))
    assert [name for name in "abcd" if memory.get(name)] == ["a", "c", "d"]
    memory.put(ready("large", 10_000))
    assert memory.get("large") is None
    held = memory.get("d")
    assert isinstance(held, Ready)
    held.stream(usage=False)
    memory.grown(held)
    assert memory.bytes <= 7000
    assert memory.get("a") is None
    memory.resize(3000)
    assert len(memory) == 0 or memory.bytes <= 3000


def test_what_has_expired_is_gone() -> None:
    """And what came too long ago from a store that others share."""
    clock = Clock(0.0)
    memory = Memory(10**6, clock)
    shared = Memory(10**6, clock, fresh=10.0)
    memory.put(ready("a"))
    shared.put(ready("a"))
    clock.now = 10.5
    assert memory.get("a") is not None
    assert shared.get("a") is None
    clock.now = 100.0
    assert memory.get("a") is None
    assert memory.bytes == shared.bytes == 0


def test_only_what_is_meant_is_removed() -> None:
    """By id, route, partition and age."""
    for selection, left in (
        (Selection(), ""),
        (Selection(ids=("a",)), "bc"),
        (Selection(route="s"), "ac"),
        (Selection(partition="q"), "ab"),
        (Selection(created_before=5), "b"),
    ):
        memory = Memory(10**6, Clock(0.0))
        memory.put(ready("a"))
        memory.put(ready("b", route="s", created=7.0))
        memory.put(ready("c", partition="q"))
        assert memory.remove(selection) == 3 - len(left)
        assert "".join(name for name in "abc" if memory.get(name)) == left


def test_what_was_fetched_before_a_removal_is_not_remembered_after_it() -> None:
    """It may be what was meant."""
    memory = Memory(10**6, Clock(0.0))
    before = memory.cleared
    memory.put(ready("a"), cleared=before)
    assert memory.get("a") is not None
    memory.remove(Selection())
    memory.put(ready("a"), cleared=before)
    assert memory.get("a") is None
    memory.put(ready("a"), cleared=memory.cleared)
    assert memory.get("a") is not None
