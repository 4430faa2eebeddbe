"""From a LiteLLM proxy's `config.yaml` to ours: what can be said in both is taken over, what cannot is told.

The source of the names is LiteLLM's documentation of `model_list`, `litellm_settings`, `router_settings` and
`general_settings`.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]

_BASES = {
    "openai": "https://api.openai.com/v1",
    "groq": "https://api.groq.com/openai/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "together_ai": "https://api.together.xyz/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "mistral": "https://api.mistral.ai/v1",
    "fireworks_ai": "https://api.fireworks.ai/inference/v1",
    "xai": "https://api.x.ai/v1",
    "cerebras": "https://api.cerebras.ai/v1",
    "perplexity": "https://api.perplexity.ai",
    "ollama": "http://127.0.0.1:11434/v1",
    "ollama_chat": "http://127.0.0.1:11434/v1",
    "hosted_vllm": "",
    "vllm": "",
    "lm_studio": "http://127.0.0.1:1234/v1",
    "openai_like": "",
    "custom_openai": "",
    "text-completion-openai": "https://api.openai.com/v1",
    "azure": "",
}
"""LiteLLM's names of vendors that speak OpenAI's API, and where; empty: only `api_base` says."""
_KEYLESS = frozenset({"ollama", "ollama_chat", "hosted_vllm", "vllm", "lm_studio"})
_OWN_CREDENTIALS = frozenset(
    {"bedrock", "bedrock_converse", "sagemaker", "sagemaker_chat", "vertex_ai", "vertex_ai_beta"}
)
"""Those whose credentials litellm finds in the environment or on the machine: without a key in the file they need none."""
_CHAT_ONLY = frozenset(_BASES) - {"openai", "azure", "text-completion-openai"}
"""Those without /v1/responses."""
_STRATEGIES = {"simple-shuffle": "weighted", "latency-based-routing": "least-latency"}
_FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
_PARAMS = frozenset({"model", "api_key", "api_base", "base_url", "api_version", "weight", "timeout", "stream_timeout"})
_LABELS = frozenset({"id", "mode", "base_model", "db_model", "description"})
"""What `model_info` says for people and for LiteLLM's own lists."""
_ENVIRONMENT = "os.environ/"


class Importer:
    """One conversion. `config` is ours, `notes` says line by line what was not taken over or needs a hand."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self._source = source
        self._vendor_keys: dict[tuple[str, str, str, str], str] = {}
        self.config: Json = {"providers": {}, "routes": {}}
        self.notes: list[str] = []

    def run(self) -> None:
        """Convert. Raises ValueError when there is nothing in it to convert."""
        models = self._source.get("model_list")
        if not isinstance(models, list) or not models:
            raise ValueError("no model_list: this is not the configuration of a LiteLLM proxy")
        settings = _section(self._source, "litellm_settings")
        router = _section(self._source, "router_settings")
        for index, each in enumerate(models):
            self._model(f"model_list[{index}]", each if isinstance(each, dict) else {})
        aliases = self._aliases(router.pop("model_group_alias", None))
        self._strategy(router.pop("routing_strategy", "simple-shuffle"))
        for name in _FALLBACKS:
            given = [*_list(settings.pop(name, None)), *_list(router.pop(name, None))]
            self._fallbacks(name, given)
        self._default_fallbacks(
            [*_list(settings.pop("default_fallbacks", None)), *_list(router.pop("default_fallbacks", None))]
        )
        self._follow(aliases)
        self._failover(settings, router)
        self._drop_params(settings)
        general = _section(self._source, "general_settings")
        key = general.pop("master_key", None)
        if key is not None:
            self.config["authenticate"] = {"keys": True}
            self.config["secrets"] = {
                "admin_key": self._secret(str(key), "LITELLM_MASTER_KEY", "general_settings.master_key")
            }
            self.notes.append(
                "general_settings.master_key: nobody calls without a key; lockgate keys create makes them"
            )
        known = {"litellm_settings": settings, "router_settings": router, "general_settings": general}
        for section, rest in known.items():
            self.notes += [f"{section}.{name}: not taken over{_why(name)}" for name in rest]
        self.notes += [
            f"{name}: not taken over{_why(name)}" for name in self._source if name not in {"model_list", *known}
        ]

    def _model(self, where: str, entry: Json) -> None:
        params = entry.get("litellm_params")
        name = entry.get("model_name")
        if not isinstance(name, str) or not isinstance(params, dict) or not isinstance(params.get("model"), str):
            self.notes.append(f"{where}: has no model_name or no litellm_params.model, left out")
            return
        if params["model"].startswith(_ENVIRONMENT):
            self.notes.append(f"{where}.litellm_params.model: is a variable and not a vendor's model, left out")
            return
        provider, model = self._provider(where, params)
        deployment: Json = {"provider": provider, "model": "*" if model.endswith("*") else model}
        if isinstance(params.get("weight"), int | float):
            deployment["weight"] = float(params["weight"])
        route = self.config["routes"].setdefault(name, {"deployments": []})
        route["deployments"].append(deployment)
        for theirs, ours in (("timeout", "total"), ("stream_timeout", "first_content")):
            if params.get(theirs) is not None:
                self._timeout(
                    route.setdefault("timeouts", {}), ours, params[theirs], f"{where}.litellm_params.{theirs}"
                )
        self.notes += [
            f"{where}.litellm_params.{each}: not taken over{_why(each)}" for each in params if each not in _PARAMS
        ]
        about = _section(entry, "model_info")
        others = [name for name in entry if name not in {"model_name", "litellm_params", "model_info"}]
        self.notes += [
            f"{where}.{each}: not taken over{_why(each.rpartition('.')[2])}"
            for each in (*(f"model_info.{name}" for name in about if name not in _LABELS), *others)
        ]

    def _provider(self, where: str, params: Json) -> tuple[str, str]:
        """The provider's name in our file, made at its first use, and the model's name there."""
        vendor, slash, model = params["model"].partition("/")
        if not slash:
            vendor, model = "openai", params["model"]
        base = _reference(params.get("api_base") or params.get("base_url") or "")
        version = _reference(params.get("api_version") or "")
        key = str(params.get("api_key") or "")
        identity = (vendor, base, version, key)
        if identity not in self._vendor_keys:
            taken = sum(1 for each in self._vendor_keys if each[0] == vendor)
            name = vendor if not taken else f"{vendor}-{taken + 1}"
            self._vendor_keys[identity] = name
            self.config["providers"][name] = self._describe(where, identity, name)
        return self._vendor_keys[identity], model

    def _describe(self, where: str, identity: tuple[str, str, str, str], name: str) -> Json:
        vendor, base, version, key = identity
        native = vendor in _BASES
        # a key that the file does not name is the vendor's own variable; one in plain text wants a variable of its own
        owner = name if key else vendor.removeprefix("text-completion-")
        variable = f"{owner.upper().replace('-', '_')}_API_KEY"
        provider: Json = {"kind": "openai"} if native else {"kind": "litellm", "vendor": vendor}
        url = base or _BASES.get(vendor, "")
        if native and not url:
            self.notes.append(f"{where}: vendor {vendor} needs an api_base; providers.{name}.base_url is a placeholder")
            url = "http://127.0.0.1:8001/v1"
        if native and vendor.startswith("ollama") and base and not base.rstrip("/").endswith("/v1"):
            url = f"{base.rstrip('/')}/v1"
        if url and url != _BASES["openai"]:
            provider["base_url"] = url
        if version:
            provider["api_version"] = version
        if native and vendor in _CHAT_ONLY:
            provider["responses"] = False
        if key or vendor not in _KEYLESS | _OWN_CREDENTIALS:
            provider["api_key"] = self._secret(key, variable, f"{where}.litellm_params.api_key")
        return provider

    def _secret(self, value: str, variable: str, where: str) -> str:
        """A reference to an environment variable; a secret in plain text is left where it was."""
        if value.startswith(_ENVIRONMENT) or not value:
            return f"${{{value.removeprefix(_ENVIRONMENT) or variable}:-}}"
        self.notes.append(f"{where}: stood in the file in plain text; put it into the environment as {variable}")
        return f"${{{variable}:-}}"

    def _aliases(self, aliases: Any) -> dict[str, str]:
        """Make routes of the further names of models; returns whose they are."""
        made: dict[str, str] = {}
        routes = self.config["routes"]
        if aliases is not None and not isinstance(aliases, dict):
            self.notes.append("router_settings.model_group_alias: is no mapping, left out")
            aliases = {}
        for alias, target in (aliases or {}).items():
            name = target.get("model") if isinstance(target, dict) else target
            if name not in routes:
                self.notes.append(f"router_settings.model_group_alias.{alias}: there is no model {name!r}")
            elif alias not in routes:
                routes[alias] = copy.deepcopy(routes[name])
                made[alias] = str(name)
        return made

    def _follow(self, aliases: Mapping[str, str]) -> None:
        """Let an alias fall back as its model does, where it has no fallbacks of its own."""
        routes = self.config["routes"]
        for alias, name in aliases.items():
            for kind in _FALLBACKS:
                others = [each for each in routes[name].get(kind, ()) if each != alias]
                if others:
                    routes[alias].setdefault(kind, others)

    def _strategy(self, strategy: Any) -> None:
        ours = _STRATEGIES.get(strategy, "weighted")
        if strategy not in _STRATEGIES:
            self.notes.append(f"router_settings.routing_strategy: {strategy} is not known here; weighted is used")
        for route in self.config["routes"].values():
            if len(route["deployments"]) > 1:
                route["strategy"] = ours

    def _fallbacks(self, name: str, given: list[Any]) -> None:
        for entry in given:
            for model, others in entry.items() if isinstance(entry, dict) else ():
                if model == "*":
                    self._default_fallbacks(_list(others))
                    continue
                route = self._route(model, name)
                if route is not None:
                    route[name] = [each for each in _list(others) if self._route(each, name) is not None]

    def _default_fallbacks(self, names: list[Any]) -> None:
        kept = [each for each in names if self._route(each, "default_fallbacks") is not None]
        for name, route in self.config["routes"].items():
            others = [each for each in kept if each != name]
            if others:
                route.setdefault("fallbacks", others)

    def _route(self, name: Any, where: str) -> Json | None:
        found: Json | None = self.config["routes"].get(name)
        if found is None:
            self.notes.append(f"{where}: there is no model {name!r}, left out")
        return found

    def _failover(self, settings: Json, router: Json) -> None:
        failover: Json = {}
        retries = self._number(settings, router, "num_retries")
        if isinstance(retries, int):
            failover["tries"] = retries + 1
            failover["max_attempts"] = max(6, 2 * (retries + 1))
        cooldown: Json = {}
        rest = self._number(settings, router, "cooldown_time")
        if rest is not None:
            cooldown["failing"] = cooldown["limited"] = f"{rest:g}s"
        fails = self._number(settings, router, "allowed_fails")
        if isinstance(fails, int):
            cooldown["minimum"] = fails + 1
        if cooldown:
            failover["cooldown"] = cooldown
        self.config["failover"] = failover
        for section, theirs, ours in (
            (settings, "request_timeout", "total"),
            (router, "timeout", "total"),
            (router, "stream_timeout", "first_content"),
        ):
            if theirs in section:
                self._timeout(self.config.setdefault("timeouts", {}), ours, section.pop(theirs), theirs)

    def _number(self, settings: Json, router: Json, name: str) -> int | float | None:
        """The router's value before the general one; both are taken out. What is no number is said."""
        general, own = settings.pop(name, None), router.pop(name, None)
        value = own if own is not None else general
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        if value is not None:
            self.notes.append(f"{name}: {value!r} is no number, left out")
        return None

    def _drop_params(self, settings: Json) -> None:
        if settings.pop("drop_params", False) is True:
            for provider in self.config["providers"].values():
                if provider["kind"] == "litellm":
                    provider["unsupported"] = "drop"

    def _timeout(self, timeouts: Json, ours: str, value: Any, where: str) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.notes.append(f"{where}: {value!r} is no number of seconds, left out")
            return
        before = timeouts.get(ours, f"{value:g}s")
        if before != f"{value:g}s":
            self.notes.append(f"{where}: another deployment of this name has {before}; the longer one holds for all")
        timeouts[ours] = f"{max(value, float(before.removesuffix('s'))):g}s"


def convert(source: Mapping[str, Any]) -> tuple[Json, list[str]]:
    """Our configuration as data, and what was not taken over. Raises ValueError."""
    importer = Importer(source)
    importer.run()
    return importer.config, importer.notes


def _section(source: Mapping[str, Any], name: str) -> Json:
    section = source.get(name)
    return dict(section) if isinstance(section, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _reference(value: Any) -> str:
    text = str(value)
    return f"${{{text.removeprefix(_ENVIRONMENT)}:-}}" if text.startswith(_ENVIRONMENT) else text


_VARIABLES = {
    "vertex_project": "VERTEXAI_PROJECT",
    "vertex_location": "VERTEXAI_LOCATION",
    "vertex_credentials": "GOOGLE_APPLICATION_CREDENTIALS",
}
"""Where litellm looks for what it is not told."""
_WHY: list[tuple[Callable[[str], bool], str]] = [
    (
        lambda name: name in {"rpm", "tpm"},
        ": see caller_limits, which bounds callers; providers bound themselves by 429",
    ),
    (lambda name: "callback" in name, ": every call is recorded and shipped to MLflow, see record"),
    (lambda name: name.startswith("cache"), ": see exact_cache and semantic_cache"),
    (lambda name: name.startswith("redis"), ": see limits_store"),
    (lambda name: name == "database_url", ": see database; keys are made anew, LiteLLM keeps only their hashes"),
    (lambda name: name == "environment_variables", ": set them in the environment"),
    (lambda name: name == "guardrails", ": see input_guards and output_guards"),
    (lambda name: name in {"input_cost_per_token", "output_cost_per_token"}, ": see prices"),
]


def _why(name: str) -> str:
    variable = name.upper() if name.startswith("aws_") else _VARIABLES.get(name)
    if variable is not None:
        return f": set {variable} in the environment"
    return next((why for fits, why in _WHY if fits(name)), "")
