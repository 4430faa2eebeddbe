"""Members and roles under the names that a deployment's model knows."""

from typing import Any

import msgspec
import pytest
from support.calls import Provider, answers, make_call, make_route

from policies.attempt import SendOnce
from policies.rename import Rename
from proxy.call import Call
from proxy.chain import Handler, chain
from proxy.deployments import Deployment
from proxy.endpoints import CHAT, RESPONSES, Endpoint
from proxy.reply import Reply


async def sent(call: Call, **rename: str) -> dict[str, bytes]:
    """The members as the deployment gets them."""
    seen: list[Call] = []

    async def notes(given: Call, deployment: Deployment) -> Reply:
        seen.append(given)
        return await answers(given, deployment)

    route = make_route(Provider(notes), "a")
    deployment = msgspec.structs.replace(route.deployments[0], rename=rename)
    handler: Handler = chain([Rename()], SendOnce(lambda: 0.0))
    await handler(call.replace(route=msgspec.structs.replace(route, deployments=(deployment,))))
    return {name: bytes(raw) for name, raw in seen[0].head.members.items()}


async def test_a_member_gets_its_new_name_and_keeps_its_value() -> None:
    """Both ways; what was changed is recorded."""
    call = make_call(max_tokens=5)
    members = await sent(call, max_tokens="max_completion_tokens")
    assert members["max_completion_tokens"] == b"5"
    assert "max_tokens" not in members
    assert call.record.changed == ["max_tokens"]
    assert (await sent(make_call(max_completion_tokens=5), max_completion_tokens="max_tokens"))["max_tokens"] == b"5"


async def test_of_two_names_the_new_one_counts() -> None:
    """The old one is not known there."""
    members = await sent(make_call(max_tokens=5, max_completion_tokens=6), max_tokens="max_completion_tokens")
    assert members["max_completion_tokens"] == b"6"
    assert "max_tokens" not in members


@pytest.mark.parametrize(("endpoint", "name"), [(CHAT, "messages"), (RESPONSES, "input")])
async def test_a_role_is_another_one_and_all_else_stays(endpoint: Endpoint, name: str) -> None:
    """In chat messages and in the input of a response; a text that says the word is a text."""
    items: list[dict[str, Any]] = [
        {"role": "developer", "content": "be brief", "x": 1.50},
        {"role": "user", "content": "developer"},
    ]
    call = make_call(messages=items) if name == "messages" else make_call(endpoint=endpoint, input=items)
    members = await sent(call, developer="system")
    assert members[name] == (b'[{"role":"system","content":"be brief","x":1.5},{"role":"user","content":"developer"}]')
    assert call.record.changed == [name]


@pytest.mark.parametrize("value", [[], [{"role": "user", "content": '"developer"'}], ["developer"], [1]])
async def test_where_there_is_nothing_to_rename_nothing_changes(value: object) -> None:
    """The very same call goes on, also with what are no messages."""
    call = make_call(messages=value)
    before = {name: bytes(raw) for name, raw in call.head.members.items()}
    assert await sent(call, developer="system", max_tokens="max_completion_tokens") == before
    assert call.record.changed == []


async def test_a_second_attempt_starts_from_what_the_client_sent() -> None:
    """And what was changed stands in the record once."""
    call = make_call(max_tokens=5)
    for _ in range(2):
        assert (await sent(call, max_tokens="max_completion_tokens"))["max_completion_tokens"] == b"5"
    assert (await sent(call))["max_tokens"] == b"5"
    assert call.record.changed == ["max_tokens"]
