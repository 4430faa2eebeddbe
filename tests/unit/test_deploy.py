"""The stack's files, checked by the published schemas and by their own words: no container engine runs them here."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import environments
import pytest
import yaml

from proxy.build import plan, price_book
from proxy.config_file import ConfigError, load_config

ROOT = Path(__file__).parents[2]
COMPOSE = ("docker-compose.yml", "docker-compose.prod.yml")
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
BASE = ROOT / "deploy" / "kubernetes" / "base"
EXAMPLE = ROOT / "deploy" / "kubernetes" / "example"
MANIFESTS = sorted(
    path
    for folder in (BASE, EXAMPLE)
    for path in folder.glob("*.yaml")
    if path.name not in ("kustomization.yaml", "lockgate.yaml")
)

PRODUCTION = {
    "API_SECRET_KEY": "0123456789abcdef" * 4,
    "LITELLM_MASTER_KEY": "fedcba9876543210" * 4,
    "DATABASE_URL": "postgresql://lockgate@postgres/lockgate",
    "LIMITS_STORE": "redis://valkey:6379/0",
    "EMBEDDINGS_URL": "http://tei:8080",
}
"""What production's configuration asks of its environment."""


def stack(name: str) -> dict[str, Any]:
    """A compose file, with its anchors resolved."""
    tree: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return tree


def documents(path: Path) -> list[dict[str, Any]]:
    """The objects of a manifest."""
    return list(yaml.safe_load_all(path.read_text()))


SERVICES = [(name, service) for name in COMPOSE for service in stack(name)["services"]]


@pytest.fixture(scope="module")
def tools() -> Path:
    """Programs that know the schemas, from their packages."""
    return environments.make("stack").folder / "bin"


def run(program: Path, *arguments: str) -> None:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [*COMPOSE, "deploy/open-webui.yml"])
def test_compose_files_follow_the_published_schema(name: str, tools: Path) -> None:
    run(tools / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / name))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_follow_the_published_schemas(path: Path, tools: Path) -> None:
    run(tools / "kubernetes-validate", "--strict", str(path))


def test_the_dockerfile_pleases_its_linter(tools: Path) -> None:
    run(tools / "hadolint", str(ROOT / "deploy" / "Dockerfile"))


@pytest.mark.parametrize(("name", "service_name"), SERVICES)
def test_a_service_has_the_least_power(name: str, service_name: str) -> None:
    """No root, no writable root, no capability, bounded; with a health check and an image that can be set."""
    service = stack(name)["services"][service_name]
    assert service["user"].split(":")[0] not in ("0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert set(service["deploy"]["resources"]["limits"]) >= {"cpus", "memory", "pids"}
    assert service["healthcheck"]["test"][0] == "CMD"
    assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[^}]+:[^}]+\}", service["image"])


@pytest.mark.parametrize(("name", "service_name"), SERVICES)
def test_only_the_balancer_is_open_to_others(name: str, service_name: str) -> None:
    """Everything else is published on this machine, or not at all."""
    ports = stack(name)["services"][service_name].get("ports", [])
    assert service_name == "balancer" or all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", COMPOSE)
def test_every_volume_that_is_named_is_there_and_used(name: str) -> None:
    tree = stack(name)
    used = {
        volume.split(":")[0]
        for service in tree["services"].values()
        for volume in service.get("volumes", [])
        if not volume.startswith("./")
    }
    assert used == set(tree["volumes"])


@pytest.mark.parametrize("name", COMPOSE)
def test_no_secret_has_a_default(name: str) -> None:
    """Every key comes from the environment; in production there is no going without the gateway's own."""
    for service in stack(name)["services"].values():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"KEY|PASSWORD", variable):
                assert re.fullmatch(r"\$\{[A-Z_]+(:-|:\?[^}]+)\}", value), (variable, value)
                assert "prod" not in name or ":?" in value or variable.endswith("_API_KEY"), variable


def test_the_original_stacks_ports_hold() -> None:
    """Gateway, Qdrant, embeddings and MLflow where people look for them."""
    ports = {name: each["ports"] for name, each in stack("docker-compose.yml")["services"].items()}
    assert ports == {
        "proxy": ["127.0.0.1:8000:8000"],
        "qdrant": ["127.0.0.1:6333:6333"],
        "tei": ["127.0.0.1:8080:8080"],
        "mlflow": ["127.0.0.1:5001:5001"],
    }


@pytest.mark.parametrize(("name", "service_name"), [each for each in SERVICES if each[1].startswith("proxy")])
def test_the_grace_period_is_longer_than_the_drain(name: str, service_name: str) -> None:
    """Else a stream would be killed that may still run."""
    assert int(stack(name)["services"][service_name]["stop_grace_period"].removesuffix("s")) > 5 + 600 + 5


def test_the_balancer_asks_an_instance_again_before_the_next_one_stops_accepting() -> None:
    """Else a rolling restart has a moment in which every instance counts as dead."""
    away = re.findall(r"fail_timeout=(\d+)s", (ROOT / "deploy" / "nginx.conf").read_text())
    server = load_config(ROOT / "deploy" / "lockgate.prod.yaml", PRODUCTION).server
    assert len(away) == 2
    assert max(map(float, away)) < server.drain_delay


def test_the_balancer_keeps_the_operators_routes_and_no_others_from_strangers() -> None:
    """Feedback on an answer is every caller's."""
    (pattern,) = re.findall(r"location ~ (\S+) \{", (ROOT / "deploy" / "nginx.conf").read_text())
    for path in ("/admin/keys", "/metrics", "/ui", "/ui/app.js", "/system/cache/stats", "/system/cache/clear", "/system/health", "/system/security-metrics", "/system/cache/feedback/x"):  # fmt: skip
        assert re.search(pattern, path), path
    for path in ("/v1/chat/completions", "/auth/login", "/health/live", "/docs", "/system/cache/feedback"):
        assert not re.search(pattern, path), path


def test_instances_do_not_share_their_state() -> None:
    """The second one would be refused."""
    services = stack("docker-compose.prod.yml")["services"]
    volumes = [each["volumes"] for name, each in services.items() if name.startswith("proxy-")]
    assert len(volumes) == 2
    assert volumes[0] != volumes[1]


def test_every_variable_of_the_stack_stands_in_the_sample() -> None:
    """`.env.example` is what an operator copies."""
    sample = (ROOT / ".env.example").read_text()
    wanted = {
        name
        for file in (*COMPOSE, "deploy/open-webui.yml")
        for name in re.findall(r"\$\{([A-Z_]+)", (ROOT / file).read_text())
        if not name.endswith("_IMAGE")
    }
    assert {name for name in wanted if not re.search(rf"^#? ?{name}=", sample, re.MULTILINE)} == set()


def test_only_the_scaler_says_how_many_instances_there_are() -> None:
    """Else each `kubectl apply` would end those that the scaler had added, with their streams."""
    (scaler,) = documents(BASE / "hpa.yaml")
    (instances,) = documents(BASE / "statefulset.yaml")
    assert scaler["spec"]["scaleTargetRef"]["name"] == instances["metadata"]["name"]
    assert scaler["spec"]["minReplicas"] >= 2
    assert "replicas" not in instances["spec"]


def test_a_pod_has_the_least_power() -> None:
    pod = documents(BASE / "statefulset.yaml")[0]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["terminationGracePeriodSeconds"] > 5 + 600 + 5
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"startupProbe", "livenessProbe", "readinessProbe", "resources"} <= set(container)
        assert not container.get("env"), "secrets come by reference"
        assert container["envFrom"] == [{"secretRef": {"name": "lockgate"}}]


def test_the_kustomization_names_every_manifest() -> None:
    """One that is not named would never be applied."""
    named = documents(BASE / "kustomization.yaml")[0]["resources"]
    assert sorted(named) == sorted(path.name for path in MANIFESTS if path.parent == BASE)
    for resource in documents(EXAMPLE / "kustomization.yaml")[0]["resources"]:
        assert (EXAMPLE / resource).exists()


def test_the_image_runs_as_nobody_special_from_hashed_packages() -> None:
    """Two stages, a user, hashes, no address of an index, a bill of materials, every copied path exists and is let in."""
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 2
    assert re.search(r"^USER 10001$", DOCKERFILE, re.MULTILINE)
    assert "--require-hashes" in DOCKERFILE
    assert "index-url" not in DOCKERFILE
    assert "sbom.py" in DOCKERFILE
    allowed = [
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == each or source.startswith(f"{each}/") for each in allowed), source


def test_the_bill_of_materials_has_what_is_installed() -> None:
    """With version, licence and hashes."""
    told = subprocess.run(
        [sys.executable, "deploy/sbom.py", "deploy/requirements.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    parts = {each["name"]: each for each in yaml.safe_load(told)["components"]}
    assert {"litestar", "aiohttp", "mlflow", "qdrant-client"} <= set(parts)
    assert all(each["hashes"] for each in parts.values())
    assert parts["aiohttp"]["purl"] == f"pkg:pypi/aiohttp@{parts['aiohttp']['version']}"


def pinned(path: str) -> set[str]:
    """`name==version` of everything that a lock file names."""
    return set(re.findall(r"^[a-z0-9._-]+==[^ ;\\]+", (ROOT / path).read_text(), re.MULTILINE))


def test_the_image_has_what_was_tested_and_not_what_tests_it() -> None:
    """Its lock is the tests' lock without their own tools: the same versions, all that the project asks for, nothing more."""
    mine, tested = pinned("deploy/requirements.lock"), pinned("requirements.lock")
    assert mine < tested
    names = {each.partition("==")[0] for each in mine}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[\[<>=!~ ]", each)[0] for each in project["dependencies"]} <= names
    assert names.isdisjoint({"pytest", "mypy", "ruff", "uv", "hypothesis", "setuptools"})
    assert "-r deploy/requirements.lock" in DOCKERFILE


def test_versions_that_carried_malware_cannot_be_locked() -> None:
    """Whatever an index says is newest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (asked,) = [each for each in project["dependencies"] if each.startswith("litellm")]
    assert {"!=1.82.7", "!=1.82.8"} <= set(asked.removeprefix("litellm").split(","))
    assert pinned("requirements.lock").isdisjoint({"litellm==1.82.7", "litellm==1.82.8"})


@pytest.mark.timeout(200)
def test_no_locked_package_has_a_known_vulnerability(tools: Path, tmp_path: Path) -> None:
    """By pip-audit, where the advisories can be had; an index without them is no all-clear, and the skip says so."""
    found = tmp_path / "found.json"
    options = ("--disable-pip", "--require-hashes", "--progress-spinner=off", "--timeout=10", "--format=json")
    said = subprocess.run(
        [tools / "pip-audit", *options, f"--output={found}", "--requirement=requirements.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if not found.exists():
        pytest.skip(f"the advisories cannot be had here: {(said.stderr.strip() or 'no word').splitlines()[-1][:200]}")
    parts = json.loads(found.read_text())["dependencies"]
    if all("skip_reason" in each for each in parts):
        pytest.skip(f"the advisories cannot be had here: {parts[0]['skip_reason']}")
    told = {each["name"]: [bug["id"] for bug in each["vulns"]] for each in parts if each.get("vulns")}
    assert told == {}


PERMISSIVE = (
    r"MIT|BSD|0BSD|Apache|ISC|PSF|Python Software|MPL|Mozilla|Zlib|Unlicense|HPND|CNRI|CC0|ZPL|DFSG|OSI|not stated"
)


def test_no_package_has_a_licence_that_binds_its_users() -> None:
    """All that is installed may be used beside a closed application; LGPL and GPL are not among them."""
    told = subprocess.run(
        [sys.executable, "deploy/sbom.py", "requirements.lock"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    licences = {each["name"]: each["licenses"][0]["license"]["name"] for each in yaml.safe_load(told)["components"]}
    assert {name: said for name, said in licences.items() if not re.search(PERMISSIVE, said)} == {}


@pytest.mark.parametrize(
    "path", ["deploy/lockgate.yaml", "deploy/lockgate.prod.yaml", "deploy/kubernetes/base/lockgate.yaml"]
)
def test_a_shipped_configuration_is_valid_and_has_the_stacks_routes(path: str) -> None:
    """By the product's own word, with the variables that its stack sets."""
    secrets = {
        name: f"a-secret-of-the-test-{name}-0123456789abcdef" for name in ("API_SECRET_KEY", "LITELLM_MASTER_KEY")
    }
    urls = {
        "QDRANT_URL": "http://qdrant:6333",
        "EMBEDDINGS_URL": "http://tei:8080",
        "MLFLOW_TRACKING_URI": "http://mlflow:5001",
        "DATABASE_URL": "postgresql://lockgate@postgres/lockgate",
        "LIMITS_STORE": "redis://valkey:6379/0",
    }
    keys = {f"{name}_API_KEY": "sk-of-the-test" for name in ("OPENAI", "GEMINI", "GROQ", "OPENROUTER")}
    command = [sys.executable, "-m", "proxy.cli", "check", "--config", str(ROOT / path)]
    env = {**os.environ, **secrets, **urls, **keys}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    for route in ("groq-kimi-primary", "gpt-4o-primary", "gemini-secondary", "openrouter-fallback", "text-embedding"):
        assert f"  {route}: " in done.stdout


@pytest.mark.parametrize("path", ["deploy/lockgate.prod.yaml", "deploy/kubernetes/base/lockgate.yaml"])
@pytest.mark.parametrize("missing", ["API_SECRET_KEY", "LITELLM_MASTER_KEY", "DATABASE_URL", "LIMITS_STORE"])
def test_production_does_not_start_without_its_secrets(path: str, missing: str) -> None:
    """It says which variable is missing instead of going on with one of its own."""
    env = {name: value for name, value in PRODUCTION.items() if name != missing}
    with pytest.raises(ConfigError, match=missing):
        load_config(ROOT / path, env)


@pytest.mark.parametrize("path", ["deploy/lockgate.prod.yaml", "deploy/kubernetes/base/lockgate.yaml"])
def test_every_model_of_a_shipped_configuration_has_a_price(path: str) -> None:
    """Else a key with a budget could not use its route."""
    names = ("API_SECRET_KEY", "LITELLM_MASTER_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY")
    env = dict.fromkeys((*names, "OPENROUTER_API_KEY"), "0123456789abcdef" * 4)
    stores = {"DATABASE_URL": "postgresql://a@b/c", "LIMITS_STORE": "memory://", "EMBEDDINGS_URL": "http://tei:8080"}
    config = load_config(ROOT / path, {**env, **stores})
    planned = plan(config, lambda _: True)
    find = price_book(config, planned).find
    unpriced = {
        (each.provider, each.model)
        for name, route in planned.routes.items()
        for each in route.deployments
        if find(each.provider, each.model, name) is None
    }
    assert unpriced == set()
