"""The policy itself: it asks once who is calling, before anything is read."""

from collections.abc import Callable, Mapping

import pytest
from support.calls import make_call

from policies.authenticate import Authenticate
from proxy.call import Call, Caller
from proxy.callers import Callers
from proxy.errors import Unauthenticated
from proxy.failures import Failures
from proxy.reply import Reply
from proxy.values import Secret

ACME = Caller(id="key:1", owner="acme", tags=("a",), partition="owner:acme")


class OneCaller:
    """Knows one key."""

    def __init__(self, *, remembers: bool = False) -> None:
        self.asked: list[str] = []
        self._remembers = remembers

    def recall(self, headers: Mapping[str, str]) -> Caller | None:
        return ACME if self._remembers and headers.get("authorization") == "Bearer good" else None

    def still(self, headers: Mapping[str, str], caller: Caller) -> Callable[[], bool]:
        return lambda: self.recall(headers) is caller

    async def find(self, headers: Mapping[str, str], peer: str) -> Caller:
        self.asked.append(peer)
        if headers.get("authorization") != "Bearer good":
            raise Unauthenticated("no")
        return ACME


class Next:
    """What stands behind the policy."""

    def __init__(self) -> None:
        self.seen: list[Call] = []

    async def __call__(self, call: Call) -> Reply:
        self.seen.append(call)
        return Reply.whole(b"ok")


async def test_a_call_goes_on_with_its_caller_and_the_record_says_who() -> None:
    """The call itself is not changed."""
    callers, behind = OneCaller(), Next()
    call = make_call(headers={"authorization": "Bearer good"}).replace(peer="192.0.2.1")
    await Authenticate(callers)(call, behind)
    assert behind.seen[0].caller == ACME
    assert call.caller.id == "anyone"
    assert (call.record.caller, call.record.owner, call.record.tags) == ("key:1", "acme", ("a",))
    assert callers.asked == ["192.0.2.1"]


async def test_a_caller_in_memory_is_not_looked_for() -> None:
    """The call goes on at once; any other is looked for as ever."""
    callers, behind = OneCaller(remembers=True), Next()
    call = make_call(headers={"authorization": "Bearer good"})
    await Authenticate(callers)(call, behind)
    assert (behind.seen[0].caller, call.record.caller, callers.asked) == (ACME, "key:1", [])
    with pytest.raises(Unauthenticated):
        await Authenticate(callers)(make_call(headers={"authorization": "Bearer bad"}), behind)
    assert len(callers.asked) == 1


async def test_who_may_not_call_is_refused_before_a_body_is_read() -> None:
    """Nothing behind the policy hears of it, and the socket is not read."""

    async def read(_limit: int) -> bytes:
        raise AssertionError("read")

    behind = Next()
    call = make_call(headers={"authorization": "Bearer bad"}).replace(read_body=read)
    with pytest.raises(Unauthenticated):
        await Authenticate(OneCaller())(call, behind)
    assert not behind.seen
    assert call.record.caller == ""


async def test_the_admin_key_is_compared_as_a_whole() -> None:
    """Neither its beginning nor nothing opens anything, and without one the empty key does not either."""
    callers = Callers(Secret("admin-key"), Failures(100, lambda: 0.0))
    admin = await callers.find({"x-api-key": "admin-key"}, "p")
    assert (admin.id, admin.is_admin, admin.kind) == ("admin", True, "admin")
    for bad in ("admin-ke", "admin-key1", "ADMIN-KEY", "***"):
        with pytest.raises(Unauthenticated):
            await callers.find({"x-api-key": bad}, "p")
    for empty in ("***", "x"):
        with pytest.raises(Unauthenticated):
            await Callers(Secret(), Failures(100, lambda: 0.0)).find({"x-api-key": empty}, "p")


async def test_what_is_not_configured_is_not_tried() -> None:
    """Virtual keys and tokens where only the admin key is known: a bad key, no fault of ours."""
    callers = Callers(Secret("admin-key"), Failures(100, lambda: 0.0))
    for secret in ("sk-lg-" + "a" * 43, "eyJhbGciOiJub25lIn0.e30."):
        with pytest.raises(Unauthenticated) as caught:
            await callers.find({"authorization": f"Bearer {secret}"}, "p")
        assert caught.value.code == "invalid_api_key"


def test_a_flood_of_addresses_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded."""
    monkeypatch.setattr("proxy.failures._REMEMBERED", 10)
    failures = Failures(1, lambda: 5.0)
    for host in range(50):
        failures.count(f"192.0.2.{host}")
    assert len(failures._windows) == 10
    assert failures.wait("192.0.2.49")
