"""What `input_guards` and `output_guards` list: one Struct a kind, told apart by `kind`; unknown fields are refused.

These are apart from the guards themselves because the configuration reads them and the guards bring heavy libraries.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from policies.guards.verdict import Role
from proxy.values import Duration, Secret, duration

Setting = Literal["block", "redact", "flag", "shadow", "off"]
"""What a guard does about what it finds. `shadow` only records it; `off` is for routes, and for callers to tighten."""
STRICTNESS: Final[tuple[Setting, ...]] = ("off", "shadow", "flag", "redact", "block")
SCOPE: Final[tuple[Role, ...]] = ("user", "assistant", "tool")
"""Whose texts an input guard scans unless told otherwise: what the operator wrote is trusted."""
PersonalKind = Literal["email", "phone", "card", "iban", "national id", "ip"]
Country = Literal["us", "gb", "fr", "es", "de", "it", "nl", "pl", "br", "cn", "in", "ca"]
LEAST_WORDS: Final = 4


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores (0 to 1) from which a text is flagged and blocked."""

    flag: float
    block: float


class InjectionConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="injection"
):
    """`thresholds` and `tool_thresholds` replace the calibrated ones; `rules` is a file that replaces the shipped one.

    `turns` is how many of the last user messages are also read as one; 1 reads each alone.
    """

    name: str = ""
    action: Literal["block", "flag", "shadow", "off"] = "block"
    roles: tuple[Role, ...] = SCOPE
    max_chars: int = 100_000
    rules: str = ""
    thresholds: Thresholds | None = None
    tool_thresholds: Thresholds | None = None
    turns: int = 3


class SecretsConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="secrets"
):
    """Provider keys, tokens, private keys, connection strings."""

    name: str = ""
    action: Setting = "redact"
    roles: tuple[Role, ...] = SCOPE


class PersonalDataConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="personal_data"
):
    """`kinds` and `countries` (whose national ids are looked for); empty means all."""

    name: str = ""
    action: Setting = "redact"
    roles: tuple[Role, ...] = SCOPE
    kinds: tuple[PersonalKind, ...] = ()
    countries: tuple[Country, ...] = ()


class ExfiltrationConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="exfiltration"
):
    """`allow` lists hosts; `.example.com` stands for every host below it too."""

    name: str = ""
    action: Setting = "redact"
    roles: tuple[Role, ...] = SCOPE
    allow: tuple[str, ...] = ()


class KeywordsConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="keywords"
):
    """Literal texts, matched whatever their case; as whole words unless told otherwise."""

    words: tuple[str, ...]
    name: str = ""
    action: Setting = "block"
    roles: tuple[Role, ...] = SCOPE
    whole_words: bool = True


class LengthConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="length"
):
    """Characters (code points) that a text may have."""

    max_chars: int
    name: str = ""
    action: Literal["block", "flag", "shadow", "off"] = "block"
    roles: tuple[Role, ...] = SCOPE


class PromptLeakConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="prompt_leak"
):
    """`words` in a row of the system prompt are a leak. `canary` is a text that stands in it and must never leave."""

    name: str = ""
    action: Setting = "block"
    canary: str = ""
    words: int = 8


class HttpConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="http"):
    """A webhook that is asked about each text. `on_error` says whether a call goes on when it does not answer in time."""

    url: str
    name: str = ""
    action: Literal["block", "flag", "shadow", "off"] = "block"
    roles: tuple[Role, ...] = SCOPE
    headers: Mapping[str, Secret] = {}
    timeout: Duration = duration("2s")
    on_error: Literal["open", "closed"] = "closed"


class OwnConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="own"):
    """A guard of the user's own: `entry` names it among the entry points `lockgate.guards`; it is made from `settings`."""

    entry: str
    name: str = ""
    action: Literal["block", "flag", "shadow", "off"] = "block"
    roles: tuple[Role, ...] = SCOPE
    settings: dict[str, Any] = {}
    timeout: Duration = duration("2s")
    on_error: Literal["open", "closed"] = "closed"


InputGuard = (
    InjectionConfig
    | SecretsConfig
    | PersonalDataConfig
    | ExfiltrationConfig
    | KeywordsConfig
    | LengthConfig
    | HttpConfig
    | OwnConfig
)
OutputGuard = (
    SecretsConfig
    | PersonalDataConfig
    | PromptLeakConfig
    | ExfiltrationConfig
    | KeywordsConfig
    | LengthConfig
    | HttpConfig
    | OwnConfig
)
GuardConfig = InputGuard | PromptLeakConfig


class SecurityLogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the security log holds of the texts it speaks of: a keyed digest and the length, or an excerpt too."""

    texts: Literal["off", "full"] = "off"


Post = Callable[[str, Mapping[str, str], bytes, float], Awaitable[tuple[int, bytes]]]
"""Sends (url, headers, body, seconds) and returns status and body. Raises OSError when there is no answer in time."""


class Side(msgspec.Struct, frozen=True):
    """The configured guards of one side: everywhere, and by route where a route has its own."""

    everywhere: tuple[GuardConfig, ...] = ()
    routes: Mapping[str, tuple[GuardConfig, ...]] = {}

    @property
    def is_any(self) -> bool:
        """Whether there is any guard at all."""
        return bool(self.everywhere or self.routes)

    def of(self, route: str) -> tuple[GuardConfig, ...]:
        """The guards of a route: its own settings replace those of the same name, and others are added."""
        own = self.routes.get(route)
        if own is None:
            return self.everywhere
        merged = {name_of(each): each for each in self.everywhere}
        merged.update((name_of(each), each) for each in own)
        return tuple(merged.values())

    def all(self) -> Iterable[GuardConfig]:
        """Every setting there is."""
        yield from self.everywhere
        for own in self.routes.values():
            yield from own


def name_of(config: GuardConfig) -> str:
    """What a guard is called in records, logs and metrics: its `name`, else its kind."""
    return config.name or str(config.__struct_config__.tag)


def stricter(configured: Setting, asked: str) -> Setting:
    """The stricter of two actions: a caller may tighten what is configured and never loosen it."""
    if asked not in STRICTNESS:
        return configured
    return STRICTNESS[max(STRICTNESS.index(configured), STRICTNESS.index(asked))]


def problems(configs: Iterable[GuardConfig], path: str) -> list[str]:
    """What makes no sense in a list of guards, with its path. Needs no heavy library, so much is left to the guards."""
    found: list[str] = []
    seen: set[str] = set()
    for index, config in enumerate(configs):
        name = name_of(config)
        if name in seen:
            found.append(f"{path}[{index}].name: two guards are named {name!r}; give each its own name")
        seen.add(name)
        if isinstance(config, PromptLeakConfig) and config.words < LEAST_WORDS:
            found.append(f"{path}[{index}].words: fewer than {LEAST_WORDS} words would find common phrases")
        if isinstance(config, HttpConfig) and not config.url.startswith(("http://", "https://")):
            found.append(f"{path}[{index}].url: {config.url!r} is no http or https address")
    return found
