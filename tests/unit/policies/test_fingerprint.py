"""What is the same call has the same key, and nothing else has."""

import itertools
import json

import pytest
from support.calls import make_call

from policies.fingerprint import canonical, canonical_value, fingerprint
from proxy.endpoints import CHAT
from proxy.wire import read_head

VALUES = [
    *("0.5", '"0.5"', '"\\u0000number 0.5"', "1.0", "1", '"1"', "true", "1e3", "1000", "1e400", "1e401", "1e-400"),
    *("0.0", "-0.0", "0", "1e99999999999999999999", "[0.5]", '{"0.5":0.5}', "null", '""', "[]", "{}"),
    *("18446744073709551616", "18446744073709551617", "0.10000000000000000", "0.1", "0.10000000000000001"),
    *("9" * 5000, "9" * 5001),
]


def test_values_that_differ_have_different_forms() -> None:
    """Numbers and texts, however large or small, alone and deep inside; none fails, and each says what was said."""
    for one, other in itertools.combinations(VALUES, 2):
        assert canonical_value(one.encode()) != canonical_value(other.encode()), (one[:30], other[:30])
        assert canonical_value(b'{"a":[%b]}' % one.encode()) != canonical_value(b'{"a":[%b]}' % other.encode())
    for each in VALUES[:-2]:
        given = json.loads(each, parse_float=str)
        assert json.loads(canonical_value(each.encode()), parse_float=str) == given


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_spelling_does_not_count(value: str) -> None:
    """Neither the order of members nor the spacing around them, at any depth."""
    one = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"top_p":%b}' % value.encode()
    other = b'{ "top_p" : %b , "messages":[ {"content":"hi", "role":"user"}], "model":"m" }' % value.encode()
    calls = [make_call().replace(body=body, head=read_head(body, CHAT)) for body in (one, other)]
    assert canonical(calls[0]) == canonical(calls[1])
    assert len({fingerprint(call, partition="p") for call in calls}) == 1
    assert len({fingerprint(call, partition="p", without="top_p") for call in (*calls, make_call())}) == 1
