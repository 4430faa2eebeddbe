"""Texts made to be slow or fatal: every guard takes them in linear time, in slices, and none raises."""

import asyncio
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from support.calls import make_call
from support.guards import guarding

from policies.guards import exfiltration, personal_data, secrets
from policies.guards.injection import Injection
from policies.guards.keywords import build as keywords
from policies.guards.prompt_leak import PromptLeak
from policies.guards.settings import (
    ExfiltrationConfig,
    InjectionConfig,
    KeywordsConfig,
    PersonalDataConfig,
    PromptLeakConfig,
    Thresholds,
)
from policies.guards.verdict import Guard, finish
from proxy.call import Call, Head
from proxy.errors import GatewayError
from proxy.reply import Reply

HOSTILE = {
    "one letter": "a" * 200_000,
    "marks": "a\u0301\u0327" * 60_000,
    "sorting marks": "\u093c\u094d" * 90_000,
    "expanding": "\ufdfa" * 100_000,
    "base64": "QUFB" * 50_000,
    "percent": "%41" * 60_000,
    "entities": "&lt;" * 50_000,
    "brackets": "[(" * 100_000,
    "dashes": ".- " * 60_000,
    "leet": "1gn0re " * 25_000,
    "words of rules": "ignore the your all previous show me secret " * 4_000,
    "surrogates": "\ud800" * 150_000,
    "nested": "JTI1JTI1" * 20_000,
    "nul": "\0" * 200_000,
    "digits": "1" * 200_000,
    "spaced digits": "12 34 56 78 " * 16_000,
    "addresses": "a@" * 100_000,
    "mails": "a.b@c.d " * 25_000,
    "colons": ":a" * 100_000,
    "keys": "-----BEGIN RSA PRIVATE KEY-----\n" + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n" * 5_000,
    "beginnings of keys": "-----BEGIN RSA PRIVATE KEY-----\nAAAAAAAAAAAAAAAAAAAA\n" * 4_000,
    "passwords": "password=password=" * 10_000,
    "accounts": "DE89 3704 " * 20_000,
    "links": "](https://a.b/" * 15_000,
    "slashes": "//" * 100_000,
    "capitals": "AB " * 60_000,
    "connections": "ab://a:b@" * 20_000,
    "prefixes": "sk-" * 60_000,
    "tokens": "eyJabcdefgh.eyJabcdefgh." * 8_000,
    "phones": "+1 " * 60_000,
    "blanks": " " * 200_000,
    "one letter words": "a b c d e f g h i j " * 10_000,
}
GUARDS: dict[str, Guard] = {
    "injection": Injection.load(InjectionConfig(thresholds=Thresholds(2, 2), tool_thresholds=Thresholds(2, 2))),
    "secrets": secrets.build(),
    "personal_data": personal_data.build(PersonalDataConfig()),
    "exfiltration": exfiltration.build(ExfiltrationConfig()),
    "keywords": keywords(KeywordsConfig(words=("aaab", "a a"))),
    "prompt_leak": PromptLeak(PromptLeakConfig(canary="abc")).of("a b c d e f g h i j " * 20),
}


def cost(guard: Guard, text: str) -> float:
    start = time.thread_time()
    finish(guard.scan(text, "user"))
    return time.thread_time() - start


@pytest.mark.parametrize("kind", GUARDS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_take_linear_time(kind: str, name: str) -> None:
    """Four times the text takes at most some twelve times as long (caches, windows), and no text a second and a half."""
    guard, text = GUARDS[kind], HOSTILE[name]
    short = min(cost(guard, text[: len(text) // 4]) for _ in range(2))
    whole = min(cost(guard, text) for _ in range(2))
    assert whole < max(12 * short, 0.1)
    assert whole < 1.5


INPUTS = [
    {"kind": kind, "roles": ["system", "developer", "user", "assistant", "tool"]}
    for kind in GUARDS
    if kind in {"injection", "secrets", "personal_data"}
]
POLICY = guarding(INPUTS).input
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=30)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.text(max_size=12), st.sampled_from(["role", "content", "type", "text", "data", "tool_calls"])),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


async def _answers(_call: Call) -> Reply:
    return Reply.whole(b"{}")


async def _refusal(call: Call) -> GatewayError | None:
    """What the client is told, if the call does not go on."""
    assert POLICY is not None
    try:
        await POLICY(call, _answers)
    except GatewayError as error:
        return error
    return None


@settings(max_examples=200, deadline=None)
@given(
    members=st.dictionaries(st.sampled_from(["messages", "input", "tools", "prompt", "text", "x"]), JSON, max_size=4)
)
def test_no_request_makes_the_policy_fail(members: dict[str, object]) -> None:
    """Whatever shape its members have: it goes on or is refused in shape."""
    raw = {name: Raw(json.dumps(value).encode()) for name, value in members.items()}
    error = asyncio.run(_refusal(make_call().replace(head=Head(model="m", members=raw))))
    assert error is None or error.http_status == 400
