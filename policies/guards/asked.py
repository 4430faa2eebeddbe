"""Guards that are asked and take their time: a webhook, and guards of the user's own."""

import asyncio
import hashlib
import importlib.metadata
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final, Literal, Protocol

import msgspec

from policies.guards.settings import HttpConfig, OwnConfig, Post
from policies.guards.verdict import Action, Role, Verdict

logger = logging.getLogger("lockgate")

GROUP: Final = "lockgate.guards"
"""The entry points among which guards of the user's own are looked for."""
_SUCCESS: Final = 200
_REASONS: Final = 8


class Unanswered(Exception):
    """The guard gave no verdict: no answer in time, or none that can be read."""


class _Said(msgspec.Struct):
    """What a webhook answers."""

    action: Literal["allow", "flag", "block"]
    score: float | None = None
    reasons: list[str] = []


class Http:
    """POSTs `{"text", "role", "side"}` and reads `{"action": "allow"|"flag"|"block", "score"?, "reasons"?}`."""

    kind = "http"

    def __init__(self, config: HttpConfig, post: Post) -> None:
        self._url, self._timeout, self._post = config.url, float(config.timeout), post
        self._headers = {name: value.reveal() for name, value in config.headers.items()}
        self.is_open = config.on_error == "open"
        self.version = hashlib.sha256(f"{config.url}\0{config.on_error}".encode()).hexdigest()[:16]

    async def ask(self, text: str, role: Role, side: str) -> Verdict:
        """One request. Raises Unanswered."""
        body = msgspec.json.encode({"text": text, "role": role, "side": side})
        headers = {"content-type": "application/json", **self._headers}
        try:
            status, answer = await self._post(self._url, headers, body, self._timeout)
            if status != _SUCCESS:
                raise Unanswered(f"status {status}")
            said = msgspec.json.decode(answer, type=_Said)
        except OSError as error:
            raise Unanswered(str(error) or type(error).__name__) from None
        except msgspec.DecodeError as error:
            raise Unanswered(f"its answer is none: {error}") from None
        reasons = tuple(reason[:100] for reason in said.reasons[:_REASONS])
        score = said.score if said.score is not None else float(said.action != "allow")
        return Verdict(self.kind, said.action, score, (), reasons, len(text))


class Check(Protocol):
    """A guard of the user's own: what an entry point makes when it is called with its settings."""

    @property
    def version(self) -> str:
        """Changes whenever it could judge a text differently."""

    def check(self, text: str, role: str, side: str, /) -> tuple[Action, float]:
        """The action (`allow`, `flag` or `block`) and a score from 0 to 1. Runs in a thread and may take its time."""


class Own:
    """A check that stands behind an entry point, run in threads so that it may compute or wait."""

    kind = "own"

    def __init__(self, config: OwnConfig, check: Check, threads: Executor) -> None:
        self._check, self._threads, self._timeout = check, threads, float(config.timeout)
        self._entry = config.entry
        self.is_open = config.on_error == "open"
        self.version = hashlib.sha256(
            f"{config.entry}\0{config.settings!r}\0{check.version}\0{config.on_error}".encode()
        ).hexdigest()[:16]

    async def ask(self, text: str, role: Role, side: str) -> Verdict:
        """One check. Raises Unanswered."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                action, score = await loop.run_in_executor(self._threads, self._check.check, text, role, side)
        except TimeoutError:
            raise Unanswered("no verdict in time") from None
        except Exception as error:  # what is not ours may raise anything, and the operator chose what follows
            logger.exception("the guard %s failed", self._entry)
            raise Unanswered(type(error).__name__) from None
        if action not in ("allow", "flag", "block"):
            raise Unanswered(f"its action is {action!r}")
        return Verdict(self.kind, action, float(score), (), (self._entry,), len(text))


def find_check(config: OwnConfig) -> Check:
    """Make the check that the settings name. Raises ValueError when there is none, or when it refuses its settings."""
    found = importlib.metadata.entry_points(group=GROUP, name=config.entry)
    if not found:
        known = ", ".join(sorted(each.name for each in importlib.metadata.entry_points(group=GROUP))) or "none"
        raise ValueError(f"no entry point {config.entry!r} in the group {GROUP}; there are: {known}")
    try:
        make: Callable[[dict[str, Any]], Check] = next(iter(found)).load()
        return make(dict(config.settings))
    except (ImportError, AttributeError, TypeError, LookupError) as error:
        raise ValueError(f"the guard {config.entry!r} cannot be made: {error!r}") from error


AskedGuard = Http | Own
"""A check of text that waits for somebody else: `ask` it. Safe to share between tasks."""
