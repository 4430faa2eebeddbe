"""Which guards stand around a call: those of the configuration, with its route's changes, tightened by its caller."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec

from policies.guards.asked import AskedGuard
from policies.guards.prompt_leak import PromptLeak
from policies.guards.security import Counted
from policies.guards.settings import (
    GuardConfig,
    InjectionConfig,
    PromptLeakConfig,
    Setting,
    Side,
    name_of,
    stricter,
)
from policies.guards.spans import SpanGuard
from policies.guards.verdict import Guard, Role
from proxy.call import Call, Verdict

logger = logging.getLogger("lockgate")

Scanner = Guard | PromptLeak | AskedGuard
Build = Callable[[GuardConfig], Scanner]
FORM: Final = 2  # of the digest; raise it when guards of the same settings would let other answers through
_KEPT: Final = 4096


class Installed(msgspec.Struct, frozen=True):
    """A guard and what is done about its findings."""

    name: str
    kind: str
    guard: Scanner
    setting: Setting
    roles: frozenset[Role] = frozenset()
    turns: int = 1
    """User messages that are read as one."""

    @property
    def identity(self) -> str:
        """Differs wherever it could let another text through."""
        return f"{self.name}\0{self.kind}\0{self.guard.version}\0{self.setting}\0{sorted(self.roles)}\0{self.turns}"


class Plan(msgspec.Struct, frozen=True):
    """The guards of one side, in order; `salts` tell apart what is remembered of a text under this plan, by role, and
    `salt` what is remembered of a whole call.
    """

    guards: tuple[Installed, ...]
    digest: bytes
    salts: dict[Role, bytes]
    salt: bytes
    roles: frozenset[Role] = frozenset()
    """Those that any of the guards looks at."""
    passes: tuple[tuple[Verdict, Counted], ...] = ()
    """What each guard says when it finds nothing, and as what that is counted."""


class Plans(msgspec.Struct, frozen=True):
    """Both sides; `digest` is theirs together and stands in the keys of caches and flights."""

    input: Plan
    output: Plan
    digest: bytes


class Guards:
    """Finds a call's plans; made once a configuration. Raises ValueError when a guard cannot be built."""

    def __init__(self, inputs: Side, outputs: Side, build: Build) -> None:
        self._inputs, self._outputs = inputs, outputs
        self._built: list[tuple[GuardConfig, Scanner]] = []
        for config in (*inputs.all(), *outputs.all()):
            self._scanner(config, build)
        self._names = {name_of(config) for config, _ in self._built}
        self._unknown: set[str] = set()
        self._plans: dict[object, Plans] = {}

    def of(self, call: Call) -> Plans:
        """The plans of a call; the same object as long as route and caller say the same."""
        asked = call.caller.guards
        key = (call.route.name, tuple(sorted(asked.items()))) if asked else call.route.name
        plans = self._plans.get(key)
        if plans is None:
            plans = self._make(call.route.name, asked)
            if len(self._plans) >= _KEPT:
                self._plans.clear()
            self._plans[key] = plans
        return plans

    def digest(self, call: Call) -> bytes:
        """32 bytes that change whenever the guards around this call could let another text through."""
        return self.of(call).digest

    def _make(self, route: str, asked: Mapping[str, str]) -> Plans:
        for name in asked.keys() - self._names - self._unknown:
            self._unknown.add(name)
            logger.warning("a caller has an action of the guard %r, and there is none of this name", name)
        inputs = self._plan("input", route, self._inputs.of(route), asked)
        outputs = self._plan("output", route, self._outputs.of(route), asked)
        return Plans(inputs, outputs, hashlib.sha256(inputs.digest + outputs.digest).digest())

    def _plan(
        self, side: Literal["input", "output"], route: str, configs: tuple[GuardConfig, ...], asked: Mapping[str, str]
    ) -> Plan:
        guards = tuple(installed for config in configs if (installed := self._install(config, asked)).setting != "off")
        identities = "\1".join((f"{FORM} {side}", *(each.identity for each in guards)))
        digest = hashlib.sha256(identities.encode("utf-8", "surrogatepass")).digest()
        roles: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")
        salts: dict[Role, bytes] = {role: digest[:15] + bytes([number]) for number, role in enumerate(roles)}
        salt = digest[:15] + bytes([len(roles)])
        roles_read = frozenset[Role]().union(*(each.roles for each in guards))
        passes = tuple((Verdict(each.name, "allow", side), (each.name, side, "allow", route)) for each in guards)
        return Plan(guards, digest, salts, salt, roles_read, passes)

    def _install(self, config: GuardConfig, asked: Mapping[str, str]) -> Installed:
        name = name_of(config)
        scanner = next(guard for known, guard in self._built if known == config)
        setting = stricter(config.action, asked.get(name, ""))
        if setting == "redact" and not isinstance(scanner, SpanGuard | PromptLeak):
            setting = "block"  # there is nothing that it could replace
        return Installed(
            name=name,
            kind=scanner.kind,
            guard=scanner,
            setting=setting,
            roles=frozenset() if isinstance(config, PromptLeakConfig) else frozenset(config.roles),
            turns=config.turns if isinstance(config, InjectionConfig) else 1,
        )

    def _scanner(self, config: GuardConfig, build: Build) -> None:
        """Build it once, however many routes say the same but for what is to be done."""
        for known, guard in self._built:
            if _alike(known) == _alike(config):
                self._built.append((config, guard))
                return
        self._built.append((config, build(config)))


def _alike(config: GuardConfig) -> GuardConfig:
    """The same settings but for those that a scanner does not see."""
    changes: dict[str, object] = {"name": "", "action": "block"}
    if not isinstance(config, PromptLeakConfig):
        changes["roles"] = ()
    if isinstance(config, InjectionConfig):
        changes["turns"] = 1
    return msgspec.structs.replace(config, **changes)
