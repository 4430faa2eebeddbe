"""The container's files, checked as text: no engine runs them here."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_has_the_least_power(name: str) -> None:
    """No root, no writable root, no capability, bounded; published on this machine only; with a health check."""
    service = COMPOSE["services"][name]
    assert service["user"].split(":")[0] != "0"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert set(service["deploy"]["resources"]["limits"]) >= {"cpus", "memory", "pids"}
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["healthcheck"]["test"][0] == "CMD"
    assert ":" in service["image"]


def test_no_secret_has_a_default() -> None:
    """Every key comes from the environment, or is empty."""
    for name, value in COMPOSE["services"]["proxy"]["environment"].items():
        assert value.startswith(f"${{{name}:-")
        assert value == f"${{{name}:-}}" or "KEY" not in name


def test_the_grace_period_is_longer_than_the_drain() -> None:
    """Else a stream would be killed that may still run."""
    assert int(COMPOSE["services"]["proxy"]["stop_grace_period"].removesuffix("s")) > 5 + 600 + 5


def test_the_image_runs_as_nobody_special_from_hashed_packages() -> None:
    """Two stages, a user, hashes, no address of an index, every copied path exists and is let in."""
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 2
    assert re.search(r"^USER 10001$", DOCKERFILE, re.MULTILINE)
    assert "--require-hashes" in DOCKERFILE
    assert "index-url" not in DOCKERFILE
    allowed = [
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in allowed, source


def test_the_shipped_configuration_is_valid_and_has_the_stacks_routes() -> None:
    """By the product's own word."""
    command = [sys.executable, "-m", "proxy.cli", "check", "--config", str(ROOT / "deploy" / "lockgate.yaml")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for route in ("groq-kimi-primary", "gpt-4o-primary", "gemini-secondary", "openrouter-fallback", "text-embedding"):
        assert f"  {route}: " in told
