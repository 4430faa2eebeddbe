from typing import Any

import pytest
from support.calls import make_call

from policies.cache_controls import ReadCacheControls, partition_of
from proxy.call import NO_CONTROLS, CacheControls, Call, Caller
from proxy.errors import BadRequest
from proxy.reply import Reply


async def read(call: Call) -> Call:
    """The call as it is passed on."""
    passed: list[Call] = []

    async def keep(call: Call) -> Reply:
        passed.append(call)
        return Reply.whole(b"")

    await ReadCacheControls()(call, keep)
    return passed[0]


@pytest.mark.parametrize(
    ("headers", "controls"),
    [
        ({"cache-control": "no-cache"}, CacheControls(look_up=False)),
        ({"cache-control": "No-Store"}, CacheControls(store=False)),
        ({"cache-control": "no-cache, no-store"}, CacheControls(look_up=False, store=False)),
        ({"cache-control": "only-if-cached,max-age=60"}, CacheControls(only_if_cached=True, max_age=60)),
        ({"cache-control": 'max-age="5"'}, CacheControls(max_age=5)),
        ({"cache-control": "max-age=soon"}, CacheControls(max_age=0)),
        ({"cache-control": "max-age=0, max-age=100"}, CacheControls(max_age=0)),
        ({"cache-control": "max-age=100, max-age=soon, max-age=5"}, CacheControls(max_age=0)),
        ({"cache-control": "max-age =0"}, CacheControls(max_age=0)),
        ({"cache-control": "max-age = 7 ;foo"}, CacheControls(max_age=7)),
        ({"cache-control": "no-cache;foo, No-Store ; bar=1"}, CacheControls(look_up=False, store=False)),
        ({"cache-control": "no-cache = 1"}, CacheControls(look_up=False)),
        ({"cache-control": "no-transform, max-stale=5"}, NO_CONTROLS),
        ({"x-lockgate-cache-ttl": "90"}, CacheControls(ttl=90)),
        ({"x-lockgate-cache-ttl": "10m"}, CacheControls(ttl=600)),
        ({"x-lockgate-cache-namespace": "blue"}, CacheControls(namespace="blue")),
        ({"x-lockgate-cache-threshold": "0.9"}, CacheControls(threshold=0.9)),
        ({"x-lockgate-cache-mode": "exact"}, CacheControls(semantic=False)),
        ({"x-lockgate-cache-mode": "semantic"}, CacheControls(exact=False)),
        (
            {"x-lockgate-cache-mode": "off"},
            CacheControls(look_up=False, store=False, exact=False, semantic=False),
        ),
    ],
)
async def test_headers_are_understood(headers: dict[str, str], controls: CacheControls) -> None:
    """Directives of RFC 9111 in any case, and ours."""
    assert (await read(make_call(headers=headers))).cache == controls


@pytest.mark.parametrize(
    ("member", "controls"),
    [
        ({"no-cache": True}, CacheControls(look_up=False)),
        ({"no-store": True, "no-cache": False}, CacheControls(store=False)),
        ({"ttl": 60, "s-maxage": 30.5}, CacheControls(ttl=60, max_age=30.5)),
        ({"s-maxage": 30, "s-max-age": 5}, CacheControls(max_age=5)),
        ({"no-store": None, "ttl": None}, NO_CONTROLS),
        ({"namespace": "blue", "unknown": 1}, CacheControls(namespace="blue")),
        ({}, NO_CONTROLS),
        (None, NO_CONTROLS),
    ],
)
async def test_litellms_member_is_understood_and_goes_no_further(member: object, controls: CacheControls) -> None:
    """The provider never sees it, and the record says that it was taken off."""
    passed = await read(make_call(cache=member, temperature=0))
    assert passed.cache == controls
    assert "cache" not in passed.head.members
    assert "temperature" in passed.head.members
    assert passed.record.changed == ["cache"]


async def test_a_header_counts_before_the_member() -> None:
    """Where both speak of the same."""
    headers = {"x-lockgate-cache-namespace": "header", "cache-control": "max-age=1"}
    passed = await read(make_call(headers=headers, cache={"namespace": "member", "s-maxage": 9, "ttl": 5}))
    assert passed.cache == CacheControls(namespace="header", max_age=1, ttl=5)


async def test_a_call_that_says_nothing_is_passed_on_as_it_is() -> None:
    """The same object: it costs next to nothing."""
    call = make_call(headers={"x-lockgate-timeout": "5"})
    assert await read(call) is call


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"headers": {"x-lockgate-cache-ttl": "soon"}}, "x-lockgate-cache-ttl"),
        ({"headers": {"x-lockgate-cache-ttl": "-1"}}, "x-lockgate-cache-ttl"),
        ({"headers": {"x-lockgate-cache-threshold": "2"}}, "x-lockgate-cache-threshold"),
        ({"headers": {"x-lockgate-cache-threshold": "nan"}}, "x-lockgate-cache-threshold"),
        ({"headers": {"x-lockgate-cache-mode": "fuzzy"}}, "x-lockgate-cache-mode"),
        ({"headers": {"x-lockgate-cache-namespace": "x" * 257}}, "x-lockgate-cache-namespace"),
        ({"headers": {"x-lockgate-cache-namespace": "a\x00b"}}, "x-lockgate-cache-namespace"),
        ({"cache": "yes"}, "cache"),
        ({"cache": {"no-store": "true"}}, "cache.no-store"),
        ({"cache": {"no-cache": 1}}, "cache.no-cache"),
        ({"cache": {"ttl": "60"}}, "cache.ttl"),
        ({"cache": {"ttl": True}}, "cache.ttl"),
        ({"cache": {"s-maxage": -1}}, "cache.s-maxage"),
        ({"cache": {"namespace": 5}}, "cache.namespace"),
    ],
)
async def test_what_cannot_be_read_is_refused(given: dict[str, Any], param: str) -> None:
    """With the name of what is wrong."""
    with pytest.raises(BadRequest) as caught:
        await read(make_call(**given))
    assert caught.value.param == param


def test_partitions_of_different_callers_never_look_alike() -> None:
    """By tenant those of one tenant are one; by key each is its own, whatever the names are made of."""
    one, two = Caller(id="k1", partition="t"), Caller(id="k2", partition="t")
    assert partition_of(one, "tenant") == partition_of(two, "tenant") == "t"
    assert partition_of(one, "shared") == partition_of(Caller(id="x", partition="y"), "shared")
    assert partition_of(one, "key") != partition_of(two, "key")
    assert partition_of(Caller(id="bc", partition="a"), "key") != partition_of(Caller(id="c", partition="ab"), "key")
