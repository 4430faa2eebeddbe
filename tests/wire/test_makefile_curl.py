"""The operator's targets, against a running gateway."""

import asyncio
from pathlib import Path

import pytest
from support.live import gateway

ROOT = Path(__file__).parents[2]
ADMIN = "sk-admin-for-tests-0123456789"
CONFIG = {
    "providers": {"fake": {"kind": "fake"}},
    "routes": {"gpt-4o-primary": {"deployments": [{"provider": "fake", "model": "echo"}]}},
    "secrets": {"admin_key": ADMIN},
}


async def make(target: str, url: str, **variables: str) -> tuple[int, str]:
    """Exit code and everything printed."""
    given = [f"{name}={value}" for name, value in {"URL": url, "ROUNDS": "3", **variables}.items()]
    process = await asyncio.create_subprocess_exec(
        "make",
        "-f",
        "Makefile.curl",
        target,
        *given,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


TARGETS = ("status", "test-exact-cache", "test-cache-performance", "test-cache-with-logs", "cache-stats", "clear-cache")


async def test_every_target_passes_where_all_is_well(tmp_path: Path) -> None:
    """One after the other, with the scripted provider."""
    async with gateway(tmp_path, {**CONFIG, "exact_cache": {}}) as running:
        for target in TARGETS:
            code, said = await make(target, running.url, ADMIN=ADMIN)
            assert code == 0, said


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "status"])
async def test_a_target_fails_where_there_is_no_cache(tmp_path: Path, target: str) -> None:
    """And says why."""
    async with gateway(tmp_path, CONFIG) as running:
        code, said = await make(target, running.url, ADMIN=ADMIN)
        assert code != 0
        assert "FAILED: " in said
