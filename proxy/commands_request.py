"""The command that asks a running gateway about its calls."""

import sys
from datetime import UTC, datetime
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import msgspec

from proxy.config import Config
from proxy.decisions import Decision, lines
from proxy.logs import plain

_PATIENCE = 10.0
_ANY = ("0.0.0.0", "::", "")


def request(config: Config, call_id: str | None, url: str | None) -> int:
    """Print the decisions of one call, or a line for each of the last ones. Raises OSError when nothing answers.

    It shows the admin key of the configuration, if there is one.
    """
    base = (url or _address(config)).rstrip("/")
    path = "/admin/requests?limit=20" if call_id is None else f"/admin/requests/{quote(call_id, safe='')}"
    try:
        answer = _get(base + path, config.secrets.admin_key.reveal())
    except HTTPError as error:
        print(f"lockgate: {_message(error)}", file=sys.stderr)
        return 1
    if call_id is None:
        shown = [_line(each) for each in answer["requests"]]
    else:
        shown = [f"call {answer['id']}", *lines(msgspec.convert(answer["decisions"], list[Decision]))]
    print("\n".join(plain(line) for line in shown) or "no calls yet")
    return 0


def _address(config: Config) -> str:
    host = "127.0.0.1" if config.server.host in _ANY else config.server.host
    return f"http://{f'[{host}]' if ':' in host else host}:{config.server.port}"


def _get(url: str, key: str) -> Any:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with urlopen(Request(url, headers=headers), timeout=_PATIENCE) as answer:  # noqa: S310 - the operator's own address
        return msgspec.json.decode(answer.read())


def _message(error: HTTPError) -> str:
    try:
        return str(msgspec.json.decode(error.read())["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return str(error)


def _line(call: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(call["at"], UTC).strftime("%H:%M:%S")
    place = f"{call['provider']} {call['model']}" if call["provider"] else call["model"]
    end = f"{call['outcome']} {call['error']}".strip()
    return (
        f"{at} {call['id']} {call['status']:3} {call['duration'] * 1000:9.1f} ms  {call['route']:24} {place:32} {end}"
    )
