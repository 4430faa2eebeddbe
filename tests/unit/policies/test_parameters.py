"""Bounds of numeric parameters, from configuration, route and caller."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.calls import Provider, answers, make_call, make_route

from policies.parameters import Parameters, ParametersConfig
from proxy.call import Call, Caller, Head
from proxy.endpoints import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, Endpoint
from proxy.errors import BadRequest, ParameterOutOfBounds
from proxy.wire import read_head, splice

TOP = ParametersConfig(temperature=(0.0, 1.0), max_tokens=(1, 4096))
CLAMP = ParametersConfig(temperature=(0.0, 1.0), max_tokens=(1, 4096), clamp=True)


def held(config: ParametersConfig, call: Call) -> dict[str, Any]:
    """What goes upstream."""
    kept = Parameters(config).held(call)
    body: dict[str, Any] = json.loads(splice(kept.head.members, model="m", ask_usage=False))
    return body


def test_what_is_within_its_bounds_passes_byte_for_byte() -> None:
    """The bounds themselves included; the very same call goes on."""
    for temperature in (0, 0.0, 0.7, 1, 1.0):
        call = make_call(temperature=temperature, max_tokens=4096)
        assert Parameters(TOP).held(call) is call
        assert call.record.changed == []


@pytest.mark.parametrize(
    ("members", "param", "bounds"),
    [
        ({"temperature": 1.0001}, "temperature", "between 0 and 1"),
        ({"temperature": -0.1}, "temperature", "between 0 and 1"),
        ({"max_tokens": 4097}, "max_tokens", "between 1 and 4096"),
        ({"max_tokens": 0}, "max_tokens", "between 1 and 4096"),
        ({"max_completion_tokens": 4097}, "max_completion_tokens", "between 1 and 4096"),
        ({"max_output_tokens": 4097}, "max_output_tokens", "between 1 and 4096"),
        ({"max_tokens": 5, "max_completion_tokens": 10**6}, "max_completion_tokens", "between 1 and 4096"),
        ({"max_tokens": 10**400}, "max_tokens", "between 1 and 4096"),
        ({"max_tokens": -(10**400)}, "max_tokens", "between 1 and 4096"),
    ],
)
def test_what_is_outside_is_refused_with_its_name_and_bounds(members: dict[str, Any], param: str, bounds: str) -> None:
    """`max_tokens` binds every name the APIs have for it."""
    with pytest.raises(ParameterOutOfBounds) as caught:
        Parameters(TOP).held(make_call(**members))
    assert (caught.value.http_status, caught.value.code) == (400, "parameter_out_of_bounds")
    assert caught.value.param == param
    assert bounds in caught.value.message


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"9" * 5000, b"1e308", b"2E0"])
def test_a_number_of_any_size_is_compared(number: bytes) -> None:
    """None is too large to be outside."""
    call = raw_call(b"temperature", number)
    with pytest.raises(ParameterOutOfBounds):
        Parameters(TOP).held(call)
    assert held(CLAMP, call)["temperature"] in (0, 1)


@pytest.mark.parametrize("number", [b"1e-400", b"-0.0", b"0e9999", b"1.0000000000000000001", b"10e-1"])
def test_a_number_in_any_spelling_stays_as_it_was_sent(number: bytes) -> None:
    """It is within."""
    call = Parameters(TOP).held(raw_call(b"temperature", number))
    assert bytes(call.head.members["temperature"]) == number


def raw_call(name: bytes, value: bytes) -> Call:
    call = make_call(max_tokens=1)
    body = b'{"model": "m", "messages": [], "max_tokens": 1, "%b": %b}' % (name, value)
    return call.replace(body=body, head=_head(body))


def _head(body: bytes) -> Head:
    return read_head(body, CHAT)


@pytest.mark.parametrize(
    ("value", "kind"), [("1", "a string"), (True, "a boolean"), ([1], "an array"), ({}, "an object")]
)
def test_what_is_no_number_is_refused(value: object, kind: str) -> None:
    """Where it would evade its bound; a boolean is no number."""
    for config in (TOP, CLAMP):
        with pytest.raises(BadRequest) as caught:
            Parameters(config).held(make_call(max_tokens=value))
        assert (caught.value.param, caught.value.code) == ("max_tokens", "invalid_type")
        assert kind in caught.value.message


def test_a_parameter_without_bounds_is_nobodys_business() -> None:
    """Whatever it is."""
    assert held(TOP, make_call(top_p="high", seed=10**400, max_tokens=1))["top_p"] == "high"


def test_clamping_moves_to_the_nearest_bound_and_says_so() -> None:
    """Whole bounds are written as whole numbers, everything else stays."""
    call = make_call(temperature=1.7, max_tokens=0, max_completion_tokens=9999, top_p=0.3)
    changed = Parameters(CLAMP).held(call)
    assert {name: bytes(raw) for name, raw in changed.head.members.items() if name in call.record.changed} == {
        "temperature": b"1",
        "max_tokens": b"1",
        "max_completion_tokens": b"4096",
    }
    assert bytes(changed.head.members["top_p"]) == b"0.3"
    assert call.record.parameters == {"temperature": 1, "max_tokens": 1, "max_completion_tokens": 4096}
    assert bytes(call.head.members["temperature"]) == b"1.7"  # what the client sent stays with its call


@pytest.mark.parametrize(
    ("endpoint", "members", "name"),
    [
        (COMPLETIONS, {"prompt": "x"}, "max_tokens"),
        (RESPONSES, {"input": "x"}, "max_output_tokens"),
        (None, {}, "max_tokens"),
        (None, {"max_tokens": None}, "max_tokens"),
        (None, {"max_completion_tokens": None}, "max_completion_tokens"),
    ],
)
def test_an_answer_that_names_no_bound_gets_the_configured_one(
    endpoint: Endpoint | None, members: dict[str, Any], name: str
) -> None:
    """A bound that is evaded by saying nothing would be none."""
    call = make_call(**members) if endpoint is None else make_call(endpoint=endpoint, **members)
    assert held(TOP, call)[name] == 4096
    assert call.record.changed == [name]


def test_nothing_is_written_where_there_is_no_answer_or_no_bound() -> None:
    """Embeddings; and a temperature is the provider's to choose."""
    assert Parameters(TOP).held(call := make_call(endpoint=EMBEDDINGS, input="x")) is call
    only = ParametersConfig(temperature=(0, 0.5))
    assert Parameters(only).held(call := make_call()) is call
    assert Parameters(only).held(call := make_call(temperature=None)) is call


def test_a_routes_bounds_take_the_place_of_the_top_ones_by_name() -> None:
    """Wider or narrower; the others stay, `clamp` too unless it says otherwise."""
    route = make_route(Provider(answers), "a", parameters=ParametersConfig(temperature=(0, 2)))
    assert held(TOP, make_call(route=route, temperature=1.5, max_tokens=5))["temperature"] == 1.5
    with pytest.raises(ParameterOutOfBounds):
        held(TOP, make_call(route=route, temperature=1.5, max_tokens=5000))
    assert held(CLAMP, make_call(route=route, temperature=9, max_tokens=5000))["max_tokens"] == 4096
    strict = make_route(Provider(answers), "a", parameters=ParametersConfig(clamp=False))
    with pytest.raises(ParameterOutOfBounds):
        held(CLAMP, make_call(route=strict, temperature=9))


def test_a_callers_bounds_narrow_and_never_widen() -> None:
    """Names that configuration does not know are bound as well."""
    caller = Caller(id="k", bounds={"temperature": (0.5, 9.0), "max_tokens": (1, 100), "top_p": (0, 0.1)})
    assert held(TOP, make_call(caller=caller, temperature=0.5))["max_tokens"] == 100
    for members in ({"temperature": 0.4}, {"temperature": 1.1}, {"max_completion_tokens": 101}, {"top_p": 0.2}):
        with pytest.raises(ParameterOutOfBounds):
            held(TOP, make_call(caller=caller, **members))
    wider = Caller(id="k", bounds={"max_tokens": (1, 10**6)})
    assert held(TOP, make_call(caller=wider))["max_tokens"] == 4096
    apart = Caller(id="k", bounds={"temperature": (2, 3)})
    for config in (TOP, CLAMP):
        with pytest.raises(ParameterOutOfBounds):
            held(config, make_call(caller=apart, temperature=1))


def test_a_caller_has_a_choice_of_its_own_whether_it_is_clamped() -> None:
    """To the bounds of both; who says nothing has the route's."""
    bounds = {"temperature": (0.0, 0.5)}
    clamped, refused = Caller(id="a", bounds=bounds, clamp=True), Caller(id="b", bounds=bounds, clamp=False)
    assert held(TOP, make_call(caller=clamped, temperature=2))["temperature"] == 0.5
    assert held(TOP, make_call(caller=clamped, max_tokens=9999))["max_tokens"] == 4096
    with pytest.raises(ParameterOutOfBounds):
        held(CLAMP, make_call(caller=refused, temperature=2))
    policy = Parameters(CLAMP)
    silent = Caller(id="c", bounds=bounds)
    for caller, kept in ((refused, False), (silent, True), (clamped, True)):  # one after the other: nothing is mixed up
        call = make_call(caller=caller, temperature=2)
        if kept:
            assert bytes(policy.held(call).head.members["temperature"]) == b"0.5"
        else:
            with pytest.raises(ParameterOutOfBounds):
                policy.held(call)


def test_rules_are_remembered_within_bounds() -> None:
    """However many callers come by, each with its own."""
    policy = Parameters(TOP)
    for number in range(3000):
        caller = Caller(id=str(number), bounds={"max_tokens": (1, number + 1)})
        kept = policy.held(make_call(caller=caller))
        assert bytes(kept.head.members["max_tokens"]) == str(min(number + 1, 4096)).encode()
    assert len(policy._known) <= 1024


@given(value=st.floats(allow_nan=False) | st.integers(), low=st.integers(-9, 9), width=st.integers(0, 9))
def test_whatever_passes_is_within(value: float, low: int, width: int) -> None:
    """Clamped or as it was."""
    config = ParametersConfig(temperature=(low, low + width), clamp=True)
    body = b'{"model": "m", "messages": [], "temperature": %b}' % repr(value).replace("inf", "1e999").encode()
    kept = Parameters(config).held(make_call().replace(body=body, head=_head(body)))
    assert low <= float(bytes(kept.head.members["temperature"])) <= low + width


@pytest.mark.parametrize("bounds", [(2, 1), (0, float("inf")), (float("nan"), 1)])
def test_bounds_that_cannot_be_meant_are_named(bounds: tuple[float, float]) -> None:
    """At start, by `lockgate check`."""
    assert ParametersConfig(temperature=bounds).problems()[0].startswith("temperature: ")
    assert not TOP.problems()
