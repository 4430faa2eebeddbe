"""A body that a cache has answered is read once, and never for somebody else."""

from itertools import product

import msgspec
import pytest
from support.calls import Provider, answers, make_call

from policies.fingerprint import fingerprint, why_not_shareable
from policies.parameters import Parameters, ParametersConfig
from policies.read import ReadBody
from policies.readings import Readings, read
from proxy.call import CacheControls, Call, Caller, Head
from proxy.deployments import Deployment, Route
from proxy.endpoints import CHAT, COMPLETIONS, Endpoint
from proxy.errors import BadRequest, ParameterOutOfBounds
from proxy.reply import Reply
from proxy.router import Router

BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"temperature":0.5,"user":"u1"}'


def asking(body: bytes = BODY, endpoint: Endpoint = CHAT, *, path_model: str | None = None) -> Call:
    """A call whose body is still to be read."""

    async def read_body(_limit: int) -> bytes:
        return bytes(bytearray(body))  # another object with the same bytes, as from a socket

    call = make_call()
    return msgspec.structs.replace(
        call, endpoint=endpoint, head=Head(), body=b"", read_body=read_body, path_model=path_model, headers={}
    )


async def heads(*calls: Call, cache: str = "hit-exact") -> list[Head]:
    """The heads of these calls, one after the other past one reader; `cache` is what becomes of each."""
    seen: list[Head] = []

    async def innermost(call: Call) -> Reply:
        call.record.cache = cache
        seen.append(call.head)
        return Reply.whole(b"{}")

    deployment = Deployment(id="p/m", provider_name="p", model="m", provider=Provider(answers))
    reader = ReadBody(Router([Route(name="*", deployments=(deployment,))]), limit=10_000, in_flight=10_000)
    for call in calls:
        await reader(call, innermost)
    return seen


async def test_what_a_cache_answers_is_read_once() -> None:
    """And says the same of the second call."""
    calls = [asking(), asking()]
    first, second = await heads(*calls)
    assert first is second
    facts = [(each.record.model, each.record.prompt, each.record.parameters, each.record.user) for each in calls]
    assert facts[0] == facts[1]
    assert facts[0][3] == "u1"


@pytest.mark.parametrize("cache", ["", "miss", "bypass"])
async def test_what_no_cache_answers_is_not_remembered(cache: str) -> None:
    """Unique prompts leave nothing behind."""
    first, second = await heads(asking(), asking(), cache=cache)
    assert first is not second


async def test_another_body_endpoint_or_path_is_another() -> None:
    """To the last byte."""
    other = BODY.replace(b"Hi", b"Ho")
    prompt = b'{"model":"m","messages":[],"prompt":"Hi"}'
    calls = [
        asking(),
        asking(other),
        asking(path_model="n"),
        asking(prompt, CHAT),
        asking(prompt, COMPLETIONS),
    ]
    found = await heads(*calls, *calls)
    assert len({id(head) for head in found}) == len(calls)
    assert found[2].model == "n"


async def test_an_error_is_told_again() -> None:
    """Nothing is remembered of a body that cannot be read."""
    for _ in range(2):
        with pytest.raises(BadRequest):
            await heads(asking(b'{"model":'))


def test_it_holds_so_many_bytes_and_forgets_what_is_unused_longest() -> None:
    """Long bodies are not looked for at all."""
    readings = Readings(12_000)
    bodies = [BODY.replace(b"Hi", b"%d" % number) for number in range(6)]
    for body in bodies:
        call = asking(body)
        readings.keep(call, body, read(call, body))
        assert readings.find(asking(bodies[0]), bodies[0]) is not None  # kept alive by use
        assert readings.bytes <= 12_000
    kept = [readings.find(asking(body), body) is not None for body in bodies]
    assert kept[0]
    assert kept[-1]
    assert not all(kept)
    long = BODY.replace(b"Hi", b"x" * 40_000)
    readings.keep(asking(long), long, read(asking(long), long))
    assert readings.find(asking(long), long) is None


def test_whoever_shares_a_head_gets_what_is_theirs() -> None:
    """The key of a cache is the same as from a head of one's own, whoever asked before."""
    body = BODY
    shared = read(asking(), body).head
    partitions, spaces, guards = ("", "a", "b"), ("", "mine"), (b"", b"g1", b"g2")
    for partition, space, guard, without in [*product(partitions, spaces, guards, ("", "messages"))] * 2:
        call = make_call().replace(head=shared, cache=CacheControls(namespace=space))
        own = call.replace(head=read(asking(), body).head)
        assert fingerprint(call, partition=partition, guards=guard, without=without) == fingerprint(
            own, partition=partition, guards=guard, without=without
        )
    for ceiling in (1.0, 0.1, 1.0):
        call = make_call().replace(head=shared)
        assert (why_not_shareable(call, ceiling) is None) is (ceiling == 1.0)


def test_bounds_are_each_callers_own_on_a_shared_head() -> None:
    """Those of the caller before hold for nobody else."""
    shared = read(asking(), BODY).head
    policy = Parameters(ParametersConfig(max_tokens=(1, 100), clamp=True))
    wide, narrow = Caller(id="wide"), Caller(id="narrow", bounds={"temperature": (0.0, 0.2)}, clamp=False)
    for _ in range(2):
        held = policy.held(make_call().replace(head=shared, caller=wide))
        assert bytes(held.head.members["temperature"]) == b"0.5"
        assert bytes(held.head.members["max_tokens"]) == b"100"
        assert held.record.parameters["max_tokens"] == 100
        with pytest.raises(ParameterOutOfBounds):
            policy.held(make_call().replace(head=shared, caller=narrow))


def test_nothing_is_derived_of_members_that_were_changed() -> None:
    """A head with other members begins anew."""
    head = read(asking(), BODY).head
    made: list[int] = []

    def work() -> int:
        made.append(1)
        return len(made)

    assert [head.derive("x", "given", work) for _ in range(3)] == [1, 1, 1]
    assert head.derive("x", "other", work) == 2
    assert head.with_members({**head.members}).derive("x", "other", work) == 3


def test_a_body_of_many_members_counts_for_what_they_hold() -> None:
    """Each is an object of its own, larger than it is written."""
    readings = Readings(1_000_000)
    body = b'{"model":"m","messages":[],%b}' % b",".join(b'"%d":1' % number for number in range(2500))
    readings.keep(asking(body), body, read(asking(body), body))
    assert readings.find(asking(body), body) is None
    assert readings.bytes == 0
