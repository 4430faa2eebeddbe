"""Which price holds for a deployment: the configuration's, else that of the dated table for its vendor."""

from collections.abc import Callable, Mapping
from importlib.resources import files
from urllib.parse import urlsplit

import msgspec

from proxy.money import FREE, Price, Rates

PriceOf = Callable[[str, str, str], Price | None]
"""Provider's name, model there, name of the route → price; None where nothing is known."""

_HOSTS = {
    "api.openai.com": "openai",
    "generativelanguage.googleapis.com": "gemini",
    "api.groq.com": "groq",
    "openrouter.ai": "openrouter",
    "api.together.xyz": "together_ai",
    "api.together.ai": "together_ai",
    "api.fireworks.ai": "fireworks_ai",
    "api.deepseek.com": "deepseek",
    "api.mistral.ai": "mistral",
    "api.x.ai": "xai",
    "api.perplexity.ai": "perplexity",
    "api.cerebras.ai": "cerebras",
    "api.sambanova.ai": "sambanova",
    "api.deepinfra.com": "deepinfra",
    "api.novita.ai": "novita",
    "api.moonshot.ai": "moonshot",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.anthropic.com": "anthropic",
    "integrate.api.nvidia.com": "nvidia_nim",
    "ai-gateway.vercel.sh": "vercel_ai_gateway",
    "dashscope-intl.aliyuncs.com": "dashscope",
}
"""Hosts of `base_url` and the vendors whose prices hold there."""
_MAKERS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "gemini",
    "mistralai": "mistral",
    "deepseek": "deepseek",
    "x-ai": "xai",
    "cohere": "cohere",
    "perplexity": "perplexity",
    "moonshotai": "moonshot",
}
"""OpenRouter's names of makers: it charges what they charge."""
FAKE = "fake"
"""The vendor whose every model costs nothing."""
_REMEMBERED = 4096
_MILLION = 1_000_000
_DEAREST = 1_000_000_000
"""USD a million tokens, and tokens of an answer: more is a mistake, and what it came to no database would hold."""


class PriceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """USD a million tokens. What is absent costs as `input` or `output` does; `most_output` is the most tokens the
    model makes in one answer.
    """

    input: float
    output: float = 0.0
    cached: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None
    audio_input: float | None = None
    audio_output: float | None = None
    most_output: int | None = None

    def problems(self) -> list[str]:
        """What cannot be meant: a price below nothing would pay its callers."""
        amounts = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        problems = [f"{name}: from 0 to {_DEAREST}" for name, value in amounts.items() if not 0 <= value <= _DEAREST]
        return problems + (["most_output: at least 1"] if self.most_output == 0 else [])

    def price(self, source: str) -> Price:
        """The same in our units."""
        rates = {
            name: round(value * _MILLION)
            for name, value in msgspec.structs.asdict(self).items()
            if value is not None and name != "most_output"
        }
        return Price(Rates(**rates), most_output=self.most_output, source=source)


class PricesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Prices of your own, before those of the table.

    `models` are by `PROVIDER/MODEL`, `PROVIDER/*` or the model's name anywhere; `routes` by the route whose own
    deployments they are for. `vendors` says whose list holds for a provider that is not known by its address.
    """

    models: dict[str, PriceConfig] = {}
    routes: dict[str, PriceConfig] = {}
    vendors: dict[str, str] = {}

    def problems(self) -> list[str]:
        """What cannot be meant, with its path from here."""
        every = [(f"models.{name}", each) for name, each in self.models.items()]
        every += [(f"routes.{name}", each) for name, each in self.routes.items()]
        return [f"{path}.{problem}" for path, each in every for problem in each.problems()]


class _Levels(msgspec.Struct, frozen=True):
    """A price as the table has it: pico-USD a token, members that are absent as in the level above it."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    above: dict[str, "_Levels"] = {}
    tiers: dict[str, "_Levels"] = {}
    most_input: int | None = None
    most_output: int | None = None

    def price(self, source: str, standard: Rates | None = None) -> Price:
        rates = self._rates(standard)
        return Price(
            rates,
            above=tuple(sorted((int(least), level._rates(rates)) for least, level in self.above.items())),  # noqa: SLF001 - its own kind
            tiers={name: level.price(source, rates) for name, level in self.tiers.items()},
            most_input=self.most_input,
            most_output=self.most_output,
            source=source,
        )

    def _rates(self, below: Rates | None) -> Rates:
        own = {name: value for name in Rates.__struct_fields__ if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(below, **own) if below is not None else Rates(**{"input": 0, **own})


class About(msgspec.Struct, frozen=True):
    """What the table is made from, and when."""

    source: str
    made: str
    command: str
    unit: str


class _File(msgspec.Struct, frozen=True):
    about: About
    prices: dict[str, dict[str, msgspec.Raw]]


class Table:
    """The dated table that comes with the gateway (`make prices`), read narrowly: one entry at a time."""

    def __init__(self, data: bytes | None = None) -> None:
        raw = (files("proxy") / "prices.json").read_bytes() if data is None else data
        file = msgspec.json.decode(raw, type=_File)
        self.about = file.about
        self._prices = file.prices

    def find(self, vendor: str, model: str) -> Price | None:
        """The price of a vendor's model, by its exact name there."""
        if vendor == "openrouter":
            maker, _, model = model.partition("/")
            vendor = _MAKERS.get(maker, "")
        if model.startswith("ft:"):
            model = ":".join(model.split(":")[:2])  # a model of somebody's own costs as the one it was made from
        raw = self._prices.get(vendor, {}).get(model)
        if raw is None:
            return None
        return msgspec.json.decode(raw, type=_Levels).price(
            f"{self.about.source} of {self.about.made}: {vendor} {model}"
        )

    def named(self, model: str) -> list[tuple[str, Price]]:
        """Every vendor that has a model of this name, and its price."""
        found = ((vendor, self.find(vendor, model)) for vendor in sorted(self._prices))
        return [(vendor, price) for vendor, price in found if price is not None]


class PriceBook:
    """The prices of one configuration, looked up once for each deployment.

    `vendors` are those of the providers by name; `deployments` those of the routes that have a price of their own, as
    (provider, model).
    """

    def __init__(
        self,
        config: PricesConfig,
        vendors: Mapping[str, str],
        deployments: Mapping[str, frozenset[tuple[str, str]]],
        table: Table,
    ) -> None:
        self._config = config
        self._vendors = {**vendors, **config.vendors}
        self._deployments = deployments
        self._table = table
        self._found: dict[tuple[str, str, str], Price | None] = {}

    def find(self, provider: str, model: str, route: str) -> Price | None:
        """The price of a provider's model when it answers for a route; None where nothing is known."""
        key = (provider, model, route)
        try:
            return self._found[key]
        except KeyError:
            pass
        if len(self._found) >= _REMEMBERED:  # names come from clients
            self._found.clear()
        price = self._found[key] = self._look_up(provider, model, route)
        return price

    def _look_up(self, provider: str, model: str, route: str) -> Price | None:
        own = self._config.routes.get(route)
        if own is not None and self._belongs(provider, model, route):
            return own.price(f"prices.routes.{route}")
        for name in (f"{provider}/{model}", f"{provider}/*", model):
            entry = self._config.models.get(name)
            if entry is not None:
                return entry.price(f"prices.models.{name}")
        vendor = self._vendors.get(provider, "")
        return FREE if vendor == FAKE else self._table.find(vendor, model)

    def _belongs(self, provider: str, model: str, route: str) -> bool:
        """Whether it is one of the route's own deployments, and not a fallback's."""
        own = self._deployments.get(route, frozenset())
        return (provider, model) in own or (provider, "*") in own


def vendor_at(base_url: str, api_version: str) -> str:
    """The vendor whose prices hold at this address; "" for one that we do not know."""
    host = urlsplit(base_url).hostname or ""
    if api_version or host.endswith((".openai.azure.com", ".cognitiveservices.azure.com")):
        return "azure"
    return _HOSTS.get(host, "")
