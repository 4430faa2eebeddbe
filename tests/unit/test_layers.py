"""The tree keeps its layers, and its names keep their word."""

import ast
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from proxy.config import Config

ROOT = Path(__file__).parents[2]
KERNEL = {
    "authority",
    "call",
    "claims",
    "reply",
    "chain",
    "wire",
    "sse",
    "chunks",
    "chunk_shapes",
    "money",
    "mould",
    "response_events",
    "errors",
    "endpoints",
    "entries",
    "model_errors",
    "deployments",
    "usage",
    "guess",
    "limits",
    "segments",
    "values",
    "ids",
    "version",
}
COMPOSITION = {
    "admin",
    "app",
    "build",
    "cache_admin",
    "caches",
    "calibrate",
    "cli",
    "commands",
    "config",
    "config_file",
    "doors",
    "identity",
    "keepers",
    "observe",
    "semantic",
    "ship",
    "ship_start",
    "shipping",
    "standings",
}
PRODUCT = sorted(path for folder in ("proxy", "adapters", "policies") for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def ours(path: Path) -> set[str]:
    return {module for module in imports(path) if module.split(".")[0] in ("proxy", "adapters", "policies")}


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_the_layers_hold(path: Path) -> None:
    """The kernel imports itself; adapters and policies the kernel and their own folder; only the composition all."""
    folder, module = path.relative_to(ROOT).parts[0], path.stem
    kernel = {f"proxy.{name}" for name in KERNEL}
    if folder == "proxy" and module in KERNEL:
        assert ours(path) <= kernel
    elif folder == "proxy" and module not in COMPOSITION:
        assert all(name.startswith("proxy.") for name in ours(path)), "only the composition knows adapters and policies"
    elif folder == "adapters":
        assert all(name in kernel or name.startswith("adapters.") or name == "proxy.config" for name in ours(path))
    elif folder == "policies":
        allowed = kernel | {"proxy.router"}
        assert all(name in allowed or name.startswith("policies.") for name in ours(path))


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_nothing_is_imported_inside_a_function_and_nothing_is_global(path: Path) -> None:
    """A heavy library has a module of its own, looked up by name where it is configured."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert not any(isinstance(each, ast.Import | ast.ImportFrom) for each in ast.walk(node)), node.name
        assert not isinstance(node, ast.Global)


def test_every_exception_is_caught_in_the_named_places_only() -> None:
    """The edge, the callbacks of a reply that is closed, the loops that ship records, and guards of users' own."""
    found = {
        name_of(path)
        for path in PRODUCT
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception"
    }
    assert found == {
        "proxy.edge",
        "proxy.reply",
        "adapters.shipper",
        "adapters.metric_shipper",
        "policies.guards.asked",
    }


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    """Files of one thing: under 400 lines; functions that fit on a screen: under 60."""
    assert len(path.read_text().splitlines()) < 400
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


POLICY_KEYS = {
    "authenticate",
    "client_limits",
    "caller_limits",
    "parameters",
    "input_guards",
    "single_flight",
    "exact_cache",
    "semantic_cache",
    "budget",
    "output_guards",
    "failover",
    "record",
}


@pytest.mark.parametrize("key", sorted(POLICY_KEYS))
def test_a_policy_has_one_name_everywhere(key: str) -> None:
    """Config key, file, page and test."""
    assert key in {field.encode_name for field in msgspec.structs.fields(Config)}
    assert (ROOT / "policies" / f"{key}.py").exists()
    assert (ROOT / "docs" / f"{key}.md").exists()
    assert list((ROOT / "tests" / "unit" / "policies").glob(f"test_{key}.py"))
