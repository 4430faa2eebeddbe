"""From a YAML file to a Config, or to every error in it at once."""

import re
import types
import typing
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

import msgspec
import yaml

from policies.embedder import HttpEmbedder
from policies.guards.settings import problems as guard_problems
from policies.rename import RENAMES
from policies.reranker import RerankerConfig
from proxy.config import Config, FakeConfig, RecordConfig
from proxy.exposure import identity_problems
from proxy.moved import unknown
from proxy.values import decode_value, value_schema

_BOOLEAN = "tag:yaml.org,2002:bool"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SCHEME = re.compile("[a-z][a-z0-9+.-]{0,20}")
_SQLITE = "sqlite:///"
_SMALLEST_OUTBOX = 64_000
"""Bytes. A record without bodies takes about one thousand."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class ConfigError(Exception):
    """What is wrong with a configuration: `problems` has a line for each, with its path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load_config(path: Path | None, environment: Mapping[str, str]) -> Config:
    """Read a file, or the built-in default for None. Raises ConfigError."""
    try:
        text = default_text() if path is None else path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    return parse_config(text, environment)


def default_text() -> str:
    """The configuration that runs when there is no file."""
    return (files("proxy") / "default.yaml").read_text(encoding="utf-8")


def parse_config(text: str, environment: Mapping[str, str]) -> Config:
    """Raises ConfigError with every problem there is."""
    try:
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that also refuses repeated keys
    except yaml.YAMLError as error:
        raise ConfigError([f"not valid YAML: {error}"]) from None
    problems: list[str] = []
    tree = _expand(tree if tree is not None else {}, environment, "", problems)
    _check(Config, tree, "", problems)
    if problems:
        raise ConfigError(problems)
    config = msgspec.convert(tree, Config, strict=False, dec_hook=decode_value)
    problems += cross_check(config)
    if problems:
        raise ConfigError(problems)
    return config


def cross_check(config: Config) -> list[str]:
    """Names that point to nothing, and values that make no sense together."""
    problems = []
    if not 0 <= config.server.port < 2**16:
        problems.append(f"server.port: {config.server.port} is not a port")
    problems += identity_problems(config)
    problems += _address_problems(config)
    problems += [f"prices.routes.{name}: no such route" for name in config.prices.routes if name not in config.routes]
    problems += _check_record(config.record)
    problems += _limit_problems(config)
    judge = config.semantic_cache.check.judge if config.semantic_cache is not None else ""
    if judge and not any(
        (name.endswith("*") and judge.startswith(name[:-1]) and judge != name[:-1]) or judge == name
        for name in config.routes
    ):
        problems.append(f"semantic_cache.check.judge: no route {judge!r}")
    problems += guard_problems(config.input_guards, "input_guards")
    problems += guard_problems(config.output_guards, "output_guards")
    for name, route in config.routes.items():
        problems += guard_problems(route.input_guards, f"routes.{name}.input_guards")
        problems += guard_problems(route.output_guards, f"routes.{name}.output_guards")
        if not route.deployments and not route.fallbacks:
            problems.append(f"routes.{name}: neither deployments nor fallbacks")
        for index, deployment in enumerate(route.deployments):
            if deployment.provider not in config.providers:
                problems.append(f"routes.{name}.deployments[{index}].provider: no provider {deployment.provider!r}")
            if deployment.weight <= 0:
                problems.append(f"routes.{name}.deployments[{index}].weight: must be over 0")
        for key in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
            problems += [
                f"routes.{name}.{key}: no route {other!r}"
                for other in getattr(route, key)
                if other not in config.routes
            ]
    return problems


def _check_record(record: RecordConfig) -> list[str]:
    problems = []
    if record.mlflow and not _is_store(record.mlflow):
        scheme, found, _ = record.mlflow.partition("://")  # no more than this is repeated: it may hold a password
        got = f"one that begins with {scheme}://" if found and _SCHEME.fullmatch(scheme) else "something else"
        problems.append(
            "record.mlflow: expected an address such as http://127.0.0.1:5001, https://mlflow.example.com or "
            f"sqlite:////var/lib/mlflow.db, or nothing for the store in the state folder; got {got}"
        )
    if not record.experiment.strip():
        problems.append("record.experiment: is empty; name an experiment, or leave the key out for 'lockgate'")
    if record.interval <= 0:
        problems.append("record.interval: must be over 0")
    if record.max_size < _SMALLEST_OUTBOX:
        problems.append(f"record.max_size: must be at least {_SMALLEST_OUTBOX // 1000}kB, or nothing can wait in it")
    for name, value in record.otlp.headers.items() if record.otlp is not None else ():
        if not _TOKEN.fullmatch(name):
            problems.append(
                f"record.otlp.headers: {name!r} is no name of a header: letters, digits and !#$%&'*+-.^_`|~"
            )
        if not (value.reveal().isascii() and value.reveal().isprintable()):
            problems.append(f"record.otlp.headers.{name}: only printable ASCII can be sent; encode what is not")
    return problems


def _is_store(address: str) -> bool:
    """Whether records can be shipped there: to a server, or to a file that has a name."""
    return _is_http(address) or (address.startswith(_SQLITE) and not address.endswith("/"))


def _address_problems(config: Config) -> list[str]:
    """Addresses that no request could be sent to, or come from; an empty one is as if it were not there."""
    urls = {
        f"providers.{name}.base_url": each.base_url
        for name, each in config.providers.items()
        if not isinstance(each, FakeConfig)
    }
    urls["qdrant.url"] = config.qdrant.url
    if config.record.otlp is not None:
        urls["record.otlp.url"] = config.record.otlp.url
    if config.semantic_cache is not None:
        models = {"embedder": config.semantic_cache.embedder, "reranker": config.semantic_cache.reranker}
        urls |= {
            f"semantic_cache.{name}.base_url": each.base_url
            for name, each in models.items()
            if isinstance(each, HttpEmbedder | RerankerConfig)
        }
    problems = [
        f"{path}: must be an address that begins with http:// or https://"  # not repeated: it may hold a password
        for path, url in urls.items()
        if url and not _is_http(url)
    ]
    for origin in config.cors.origins if config.cors is not None else ():
        _, scheme, place = origin.partition("://")
        if origin not in ("*", "null") and (not scheme or not place or "/" in place):
            problems.append(f"cors.origins: {origin!r} is no origin, such as https://app.example.com, and no '*'")
    return problems


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # also of a port that is no number
        return False


class _Part(Protocol):
    def problems(self) -> list[str]: ...


def _limit_problems(config: Config) -> list[str]:
    """What the keys of limits, bounds and money say that cannot be meant."""
    parts: dict[str, _Part | None] = {
        "client_limits": config.client_limits,
        "caller_limits": config.caller_limits,
        "parameters": config.parameters,
        "limits_store": config.counting,
        "budget": config.budget,
        "prices": config.prices,
        "semantic_cache.reranker": config.semantic_cache.reranker if config.semantic_cache is not None else None,
    }
    parts |= {f"routes.{name}.parameters": route.parameters for name, route in config.routes.items()}
    problems = [f"{key}.{problem}" for key, part in parts.items() if part is not None for problem in part.problems()]
    for name, route in config.routes.items():
        for index, deployment in enumerate(route.deployments):
            problems += [
                f"routes.{name}.deployments[{index}].rename: {old!r} cannot become {new!r}"
                for old, new in deployment.rename.items()
                if (old, new) not in RENAMES
            ]
    server = config.server
    if server.max_in_flight < 1 or server.queue < 0:
        problems.append("server: max_in_flight must be at least 1, and queue at least 0")
    return problems


def schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors."""
    described = msgspec.json.schema(Config, schema_hook=value_schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "lockgate.yaml", **described}


class _Loader(yaml.SafeLoader):
    """Refuses repeated keys, of which YAML would silently keep the last; takes `off` and `no` for the words they are."""

    yaml_implicit_resolvers: ClassVar = {  # type: ignore[misc]  # PyYAML copies it from class to class
        first: [(tag, regex) for tag, regex in resolvers if tag != _BOOLEAN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(_BOOLEAN, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def _expand(value: Any, environment: Mapping[str, str], path: str, problems: list[str]) -> Any:
    """Put environment variables in: `${NAME}`, or `${NAME:-default}` where it may be unset or empty."""
    if isinstance(value, dict):
        return {key: _expand(each, environment, _join(path, str(key)), problems) for key, each in value.items()}
    if isinstance(value, list):
        return [_expand(each, environment, f"{path}[{index}]", problems) for index, each in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = environment.get(name, "")
        if not found and default is None and name not in environment:
            problems.append(f"{path}: environment variable {name} is not set")
        return found or default or ""

    return _VARIABLE.sub(replace, value)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _check(kind: Any, value: Any, path: str, problems: list[str]) -> None:
    """Add a problem for each place where `value` is not a `kind`."""
    kind = _chosen(kind, value, path, problems)
    origin = typing.get_origin(kind)
    if kind is None:
        return
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        _check_struct(kind, value, path, problems)
    elif origin is dict and isinstance(value, dict):
        for key, each in value.items():
            _check(typing.get_args(kind)[1], each, _join(path, str(key)), problems)
    elif origin is tuple and isinstance(value, list) and typing.get_args(kind)[-1] is Ellipsis:
        for index, each in enumerate(value):
            _check(typing.get_args(kind)[0], each, f"{path}[{index}]", problems)
    else:
        try:
            msgspec.convert(value, kind, strict=False, dec_hook=decode_value)
        except msgspec.ValidationError as error:
            problems.append(f"{path or 'the file'}: {error}")


def _check_struct(kind: type[msgspec.Struct], value: Any, path: str, problems: list[str]) -> None:
    if not isinstance(value, dict):
        problems.append(f"{path or 'the file'}: expected a mapping, got {type(value).__name__}")
        return
    hints = typing.get_type_hints(kind)
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    tag = kind.__struct_config__.tag_field
    problems += [unknown(_join(path, str(key)), str(key), known) for key in value if key not in known and key != tag]
    for name, field in known.items():
        if name in value and value[name] is None and _is_optional_part(hints[field.name]):
            problems.append(f"{_join(path, name)}: is empty; write {{}} for its defaults, or leave the key out")
        elif name in value:
            _check(hints[field.name], value[name], _join(path, name), problems)
        elif field.required:
            problems.append(f"{_join(path, name)}: missing")


def _is_optional_part(kind: Any) -> bool:
    """Whether a member is a struct that may be absent: empty it would be off, which nobody means who writes its name."""
    kinds = typing.get_args(kind)
    return type(None) in kinds and any(isinstance(each, type) and issubclass(each, msgspec.Struct) for each in kinds)


def _chosen(kind: Any, value: Any, path: str, problems: list[str]) -> Any:
    """The member of a union that `value` is meant to be; None when it is settled here."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    kinds = typing.get_args(kind)
    if value is None and type(None) in kinds:
        return None
    structs = [each for each in kinds if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    if len(structs) == 1 and isinstance(value, dict):
        return structs[0]
    if len(structs) > 1 and isinstance(value, dict):
        tags = {str(each.__struct_config__.tag): each for each in structs}
        if value.get("kind") not in tags:
            problems.append(f"{_join(path, 'kind')}: expected one of {', '.join(tags)}, got {value.get('kind')!r}")
            return None
        return tags[value["kind"]]
    others = [each for each in kinds if each is not type(None)]
    return others[0] if len(others) == 1 else kind
