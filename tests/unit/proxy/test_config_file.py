import json
import typing
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from proxy.build import plan
from proxy.config import Config, FakeConfig
from proxy.config_file import ConfigError, default_text, parse_config, schema
from proxy.moved import MOVED, unknown

ROOT = Path(__file__).parents[3]
SMALL = "providers: {p: {kind: fake}}\nroutes: {r: {deployments: [{provider: p, model: m}]}}\n"


def problems(text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, environment)
    return caught.value.problems


def test_every_problem_is_told_at_once_with_its_path() -> None:
    """Unknown keys, wrong types, missing members, unknown kinds."""
    told = "\n".join(
        problems(
            "servr: {}\n"
            "server: {port: x, drain_delay: 5}\n"
            "providers: {a: {kind: nope}, b: {kind: openai, header: {}}, c: 3}\n"
            "routes: {r: {deployments: [{provider: b}], strategy: best}}\n"
            "timeouts: {idle: soon}\n"
        )
    )
    for path in ("servr: unknown", "server.port", "server.drain_delay", "providers.a.kind", "providers.b.header: unknown", "providers.c", "routes.r.deployments[0].model: missing", "routes.r.strategy", "timeouts.idle"):  # fmt: skip
        assert path in told, path


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [", "not valid YAML"),
        ("[]", "expected a mapping"),
        ("", "providers: missing"),
        (SMALL + "providers: {}\n", "stands twice"),
        (SMALL.replace("provider: p", "provider: q"), "no provider 'q'"),
        (SMALL + "server: {host: 0.0.0.0}\n", "server.exposure"),
        (SMALL + "server: {exposure: public}\n", "server.exposure"),
        (SMALL + "secrets: {admin_key: '${NOT_THERE}'}\n", "NOT_THERE is not set"),
        (SMALL.replace("[{provider: p, model: m}]", "[], fallbacks: [none]"), "no route 'none'"),
        (SMALL.replace("[{provider: p, model: m}]", "[]"), "neither deployments nor fallbacks"),
        (SMALL.replace("fake}", "openai, base_url: api.openai.com/v1}"), "providers.p.base_url: must be an address"),
        (SMALL.replace("fake}", "openai, base_url: 'http://'}"), "providers.p.base_url: must be an address"),
        (SMALL + "qdrant: {url: 'qdrant:6333'}\n", "qdrant.url: must be an address"),
        (SMALL + "record: {otlp: {url: 'collector:4318'}}\n", "record.otlp.url: must be an address"),
        (
            SMALL + "semantic_cache: {reranker: {base_url: 'tei:80', threshold: 0.9}}\n",
            "semantic_cache.reranker.base_url: must be an address",
        ),
        (
            SMALL + "semantic_cache: {reranker: {base_url: 'http://tei', threshold: 1.5}}\n",
            "semantic_cache.reranker.threshold: must be over 0",
        ),
        (
            SMALL + "semantic_cache: {embedder: {kind: http, base_url: 'tei:80', model: m, size: 3}}\n",
            "semantic_cache.embedder.base_url: must be an address",
        ),
        (SMALL + "cors: {origins: [app.example.com]}\n", "'app.example.com' is no origin"),
        (SMALL + "cors: {origins: ['https://app.example.com/']}\n", "'https://app.example.com/' is no origin"),
        (SMALL + "exact_cache:\n", "exact_cache: is empty; write {}"),
        (SMALL + "authenticate: {login: }\n", "authenticate.login: is empty; write {}"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, part: str) -> None:
    """Before anything listens."""
    assert any(part in problem for problem in problems(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exact_cach: {}", "exact_cach: unknown key; did you mean exact_cache? known here: providers, "),
        ("exact_cache: {tll: 5s}", "exact_cache.tll: unknown key; did you mean ttl? known here: ttl, "),
        ("zzz: {}", "zzz: unknown key; known here: providers, "),
        ("model_list: []", "model_list: belongs to a LiteLLM proxy's file: lockgate import litellm FILE "),
    ],
)
def test_a_key_that_is_not_known_is_told_what_was_meant(text: str, said: str) -> None:
    """The nearest one, or where it went."""
    assert any(problem.startswith(said) for problem in problems(f"{SMALL}{text}\n"))


def test_a_key_that_moved_is_refused_with_its_new_name() -> None:
    """An upgrade never takes an old file for something else, and says what to write."""
    moved = {"record.keep": "is now ledger.keep", "routes.*.ttl": "is now routes.*.cache_ttl"}
    assert unknown("record.keep", "keep", ["mlflow"], moved) == "record.keep: is now ledger.keep"
    assert unknown("routes.gpt-4.1.ttl", "ttl", ["cache_ttl"], moved) == "routes.gpt-4.1.ttl: is now routes.*.cache_ttl"


def known_paths(kind: object, path: str = "") -> Iterator[str]:
    """Every path that the configuration has, with `*` for the names that a user chooses."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for name, hint in typing.get_type_hints(kind).items():
            here = f"{path}.{name}" if path else name
            yield here
            yield from known_paths(hint, here)
    for part in typing.get_args(kind):
        yield from known_paths(part, f"{path}.*" if typing.get_origin(kind) is dict else path)


def test_what_moved_is_gone_and_where_it_went_is_there() -> None:
    """Else the table would send somebody to a key that is refused."""
    paths = set(known_paths(Config))
    assert paths.isdisjoint(MOVED)
    assert {said.removeprefix("is now ") for said in MOVED.values() if said.startswith("is now ")} <= paths


@pytest.mark.parametrize(
    "origin", ["*", "null", "https://app.example.com", "http://localhost:3000", "tauri://localhost"]
)
def test_every_kind_of_origin_may_be_named(origin: str) -> None:
    """Programs with a page inside have schemes of their own."""
    assert parse_config(f"{SMALL}cors: {{origins: ['{origin}']}}\n", {}).cors is not None


def test_a_provider_whose_address_is_not_set_is_not_there() -> None:
    """As one without its key: a file with `${AZURE_API_BASE:-}` serves machines without Azure."""
    text = SMALL.replace("fake}", "openai, base_url: '${AZURE_API_BASE:-}', api_key: k}")
    assert plan(parse_config(text, {}), lambda _url: True).absent["provider p"] == "its base_url is empty"
    assert plan(parse_config(text, {"AZURE_API_BASE": "https://a.example"}), lambda _url: True).absent == {}


def test_variables_come_from_the_environment_and_cannot_change_the_file() -> None:
    """Put in after YAML is read; a default where it is unset or empty; text becomes the number that is wanted."""
    text = SMALL + 'server: {port: "${PORT:-8000}"}\nsecrets: {admin_key: "${KEY:-}"}\n'
    assert parse_config(text, {}).server.port == 8000
    config = parse_config(text, {"PORT": "9000", "KEY": "{a:!b}"})
    assert (config.server.port, config.secrets.admin_key.reveal()) == (9000, "{a:!b}")
    assert "{a:" not in repr(config)


def test_the_committed_schema_is_the_programs() -> None:
    """`lockgate schema > lockgate.schema.json` after a change."""
    assert json.loads((ROOT / "lockgate.schema.json").read_text()) == json.loads(json.dumps(schema()))


KEYS = ("OPENAI_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY", "OPENROUTER_API_KEY")


@pytest.mark.parametrize("key", KEYS)
def test_no_fake_answer_stands_behind_a_route_that_has_a_real_deployment(key: str) -> None:
    """With any one key, the fake serves only what is named fake; without, it labels its stand-ins."""
    config = parse_config(default_text(), {key: "sk-x"})
    real = plan(config, lambda _url: False)
    fakes = {name for name, each in real.providers.items() if isinstance(each, FakeConfig)}
    for name, route in real.routes.items():
        assert name.startswith("fake/") or not any(each.provider in fakes for each in route.deployments)
    assert real.stand_ins == ()
    nobody = plan(parse_config(default_text(), {}), lambda _url: False)
    assert set(nobody.stand_ins) == set(nobody.routes) - {"fake/*"}


def test_ollama_is_there_when_it_answers() -> None:
    """And is a real provider, before which the stand-in steps back."""
    found = plan(parse_config(default_text(), {}), lambda _url: True)
    assert "ollama/*" in found.routes
    assert found.stand_ins == ()


def test_a_route_whose_fallbacks_are_there_is_served_by_them() -> None:
    """And one that leads nowhere is named with the reason."""
    config = parse_config(default_text(), {"OPENROUTER_API_KEY": "sk"})
    planned = plan(config, lambda _url: False)
    assert planned.routes["gpt-4o-primary"].fallbacks == ("gemini-secondary", "openrouter-fallback")
    assert "route gpt-4o" in planned.absent


@pytest.mark.parametrize(
    ("route", "fails_over"),
    [
        ("{deployments: [{provider: p, model: m}]}", False),
        ("{deployments: [{provider: p, model: m}, {provider: p, model: n}]}", True),
        ("{deployments: [{provider: p, model: m}], fallbacks: [other]}", True),
        ("{deployments: [], fallbacks: [other]}", True),
        ("{deployments: [{provider: p, model: m}], content_policy_fallbacks: [other]}", True),
        ("{deployments: [{provider: p, model: m}], failover: {tries: 3}}", True),
    ],
)
def test_a_route_that_names_more_than_one_place_is_not_told_so_in_vain(route: str, fails_over: bool) -> None:
    """Failover then works by its defaults, without a key of its own."""
    text = f"providers: {{p: {{kind: fake}}}}\nroutes:\n  r: {route}\n  other: {{deployments: [{{provider: p, model: m}}]}}\n"
    assert (parse_config(text, {}).failing_over is not None) is fails_over


@pytest.mark.parametrize("word", ["off", "no", "on", "yes"])
def test_a_word_stays_a_word(word: str) -> None:
    """YAML 1.1 makes truth values of them, so that `bodies: off` could not be said; `true` and `false` are enough."""
    with pytest.raises(ConfigError, match="got `str`"):
        parse_config(f"providers: {{p: {{kind: fake, stand_in: {word}}}}}\nroutes: {{}}", {})


@pytest.mark.parametrize(
    ("written", "share", "rate"), [("0.25", 0.25, None), ("1", 1.0, None), ("0", 0.0, None), ("50/second", 1.0, 50)]
)
def test_traces_are_a_share_or_a_rate(written: str, share: float, rate: int | None) -> None:
    """As a number or as so many a second."""
    traces = parse_config(f"{SMALL}record: {{traces: {written}}}", {}).record.traces
    assert (traces.share, traces.per_second) == (share, rate)


@pytest.mark.parametrize("written", ["2", "-1", "true", "often", "5/minute", "0/second"])
def test_what_is_neither_is_refused(written: str) -> None:
    """With the path of the key."""
    with pytest.raises(ConfigError, match=r"record\.traces"):
        parse_config(f"{SMALL}record: {{traces: {written}}}", {})


def test_records_go_to_places_that_there_are() -> None:
    """A server, a database, or the store of its own."""
    for good in ("", "http://mlflow:5000", "https://mlflow.example", "sqlite:////tmp/m.db"):
        assert parse_config(f"{SMALL}record: {{mlflow: '{good}'}}", {}).record.mlflow == good
    for bad in (
        "mlruns",
        "postgresql://x",
        "sqlite:///",
        "sqlite:////",
        "sqlite:m.db",
        "http://",
        "http://[::1",
        "http://m:x",
    ):
        with pytest.raises(ConfigError, match=r"record\.mlflow: expected an address"):
            parse_config(f"{SMALL}record: {{mlflow: '{bad}'}}", {})


def test_a_password_in_an_address_is_not_repeated() -> None:
    """The scheme is enough to know what was meant."""
    for bad in ("postgresql://u:s3cret@h/db", "http://u:s3cret@h:port", "s3cret:x", "s3cret"):
        told = "\n".join(problems(f"{SMALL}record: {{mlflow: '{bad}'}}"))
        assert "record.mlflow" in told
        assert "s3cret" not in told
    assert "begins with postgresql://" in "\n".join(problems(f"{SMALL}record: {{mlflow: 'postgresql://u:p@h/db'}}"))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{experiment: ''}", "record.experiment: is empty"),
        ("{max_size: 0}", "record.max_size: must be at least 64kB"),
        ("{otlp: {url: 'http://[::1/v1/traces'}}", "record.otlp.url: must be an address"),
        ("{otlp: {url: 'http://c:99999/v1/traces'}}", "record.otlp.url: must be an address"),
        ("{otlp: {url: 'http://c', headers: {'x y': v}}}", "record.otlp.headers: 'x y' is no name of a header"),
        ("{otlp: {url: 'http://c', headers: {x-key: 'é'}}}", "record.otlp.headers.x-key: only printable ASCII"),
        ("{otlp: {url: 'http://c', headers: {x-key: \"a\\nb\"}}}", "record.otlp.headers.x-key: only printable ASCII"),
    ],
)
def test_records_that_could_never_be_shipped_are_refused_at_start(record: str, said: str) -> None:
    """And not found out by a process that dies again and again. A header's value is never repeated."""
    told = "\n".join(problems(f"{SMALL}record: {record}"))
    assert said in told


def test_a_collector_without_an_address_is_not_there() -> None:
    """As a provider: a file with `${COLLECTOR:-}` serves machines without one."""
    text = f"{SMALL}record: {{otlp: {{url: '${{COLLECTOR:-}}'}}}}"
    assert parse_config(text, {}).record.collector is None
    assert parse_config(text, {"COLLECTOR": "http://c/v1/traces"}).record.collector is not None
