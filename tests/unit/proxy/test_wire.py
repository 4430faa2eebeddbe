import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.endpoints import CHAT, EMBEDDINGS, RESPONSES
from proxy.errors import BadRequest
from proxy.wire import numbers_of, parse_members, read_head, splice

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in ("model", "messages", "stream", "stream_options", "file_id", "input")
)


def raw_members(body: bytes) -> dict[str, bytes]:
    return {name: bytes(raw) for name, raw in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(NAMES, VALUES, max_size=8),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 2, 4]),
    st.booleans(),
)
def test_only_the_model_and_include_usage_change_on_the_way_up(
    members: dict[str, Any], stream: bool, ask: bool, indent: int | None, escaped: bool
) -> None:
    """Whatever else a body holds, and however it is written, stays byte for byte."""
    whole = {"model": "mine", **members, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    body = json.dumps(whole, indent=indent, ensure_ascii=escaped).encode()
    head = read_head(body, CHAT)
    sent = raw_members(splice(head.members, model="theirs", ask_usage=ask))
    expected = raw_members(body)
    assert sent.pop("model") == b'"theirs"'
    assert expected.pop("model") == b'"mine"'
    if ask:
        assert sent.pop("stream_options") == b'{"include_usage":true}'
    assert sent == expected


@pytest.mark.parametrize(
    "number", ["1.0", "1e3", "0.10", "9223372036854775807", "-0", "1E-7", "123456789012345678901234567890"]
)
def test_numbers_are_not_written_anew(number: str) -> None:
    """A seed of 64 bits and a float's own spelling arrive as they were."""
    body = f'{{"model":"m","messages":[],"seed":{number}}}'.encode()
    assert f'"seed":{number}'.encode() in splice(read_head(body, CHAT).members, model="m", ask_usage=False)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (None, b'{"include_usage":true}'),
        ("null", b'{"include_usage":true}'),
        ("{}", b'{"include_usage":true}'),
        ('{"include_usage":false,"include_obfuscation":false}', b'{"include_usage":true,"include_obfuscation":false}'),
    ],
)
def test_usage_is_asked_for_beside_the_clients_own_options(options: str | None, sent: bytes) -> None:
    """Other stream options stay; that the client did not ask is remembered."""
    extra = "" if options is None else f',"stream_options":{options}'
    head = read_head(f'{{"model":"m","messages":[],"stream":true{extra}}}'.encode(), CHAT)
    assert not head.include_usage
    assert raw_members(splice(head.members, model="m", ask_usage=True))["stream_options"] == sent


def test_a_client_that_asks_for_usage_is_known() -> None:
    """Only a literal true counts."""
    asked = b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}'
    assert read_head(asked, CHAT).include_usage
    assert not read_head(asked.replace(b":true}", b":false}"), CHAT).include_usage


@pytest.mark.parametrize(("stream", "streams"), [("true", True), ("false", False), ("null", False)])
def test_a_stream_is_what_the_body_says(stream: str, streams: bool) -> None:
    """Null and absent are no stream."""
    assert read_head(f'{{"model":"m","messages":[],"stream":{stream}}}'.encode(), CHAT).stream is streams
    assert not read_head(b'{"model":"m","messages":[]}', CHAT).stream


def test_an_endpoint_that_never_streams_does_not_begin_to() -> None:
    """`stream: true` on embeddings asks for nothing."""
    assert not read_head(b'{"model":"m","input":"x","stream":true}', EMBEDDINGS).stream


def test_the_path_names_the_model_before_the_body_does() -> None:
    """Azure's form."""
    head = read_head(b'{"model":"body","messages":[]}', CHAT, "path")
    assert head.model == "path"
    assert b'"model":"path"' in splice(head.members, model=head.model, ask_usage=False)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_nothing_else(body: bytes) -> None:
    """No exception but ours comes out of parsing."""
    with contextlib.suppress(BadRequest):
        parse_members(body)


@pytest.mark.parametrize("member", ["previous_response_id", "conversation", "prompt"])
def test_stored_objects_are_refused_by_name(member: str) -> None:
    """And null is no object."""
    with pytest.raises(BadRequest) as caught:
        read_head(f'{{"model":"m","input":"x","{member}":"id"}}'.encode(), RESPONSES)
    assert caught.value.param == member
    read_head(f'{{"model":"m","input":"x","{member}":null}}'.encode(), RESPONSES)


def test_background_is_refused_only_when_it_is_wanted() -> None:
    """`background: false` is what everyone gets."""
    read_head(b'{"model":"m","input":"x","background":false}', RESPONSES)
    with pytest.raises(BadRequest):
        read_head(b'{"model":"m","input":"x","background":true}', RESPONSES)


@pytest.mark.parametrize("name", ["file_id", "file\\u005fid", "\\u0066ile_id", "file\\u005Fid"])
def test_a_stored_file_is_refused_however_its_name_is_spelled(name: str) -> None:
    """JSON escapes do not hide it."""
    body = f'{{"model":"m","messages":[{{"role":"user","content":[{{"type":"file","file":{{"{name}":"f"}}}}]}}]}}'
    with pytest.raises(BadRequest) as caught:
        read_head(body.encode(), CHAT)
    assert caught.value.code == "unsupported_parameter"


def test_a_number_that_no_float_holds_is_no_bug_of_ours() -> None:
    """Where a body is looked at more closely it is refused, not failed."""
    with pytest.raises(BadRequest):
        read_head(b'{"model":"m","messages":["file_id",1e999]}', CHAT)


def test_numbers_of_a_body_are_those_that_a_record_can_hold() -> None:
    """Whatever else stands there is no business of the record's."""
    body = b'{"temperature":0.5,"max_tokens":7,"seed":1e99,"n":null,"top_p":"1","top_k":99999999999999999999,"other":1}'
    numbers = numbers_of(parse_members(body))
    assert numbers == {"temperature": 0.5, "max_tokens": 7, "seed": 1e99}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(numbers)) == numbers
    assert numbers_of(parse_members(b'{"temperature":1e999,"top_p":-0}')) == {"top_p": 0}
