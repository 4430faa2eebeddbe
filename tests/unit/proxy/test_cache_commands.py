"""The cache commands that ask no gateway."""

import logging
from pathlib import Path

import pytest
import yaml

from proxy.cache_commands import migrate
from proxy.caches import store_folder
from proxy.config_file import parse_config

TREE = {
    "providers": {"fake": {"kind": "fake"}},
    "routes": {"echo": {"deployments": [{"provider": "fake", "model": "echo"}]}},
}


async def test_a_collection_is_set_aside_once_and_the_audit_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its entries are kept under another name; one that is not there is no action."""
    config = parse_config(yaml.safe_dump({**TREE, "server": {"state_dir": str(tmp_path)}}), {})
    folder = store_folder(config) / "exact"
    folder.mkdir(parents=True)
    (folder / "entry").write_text("kept")
    with caplog.at_level(logging.INFO, "lockgate.audit"):
        assert await migrate(config, "lockgate_exact") == 0
        assert await migrate(config, "lockgate_exact") == 1
    lines = [record.message for record in caplog.records if record.name == "lockgate.audit"]
    assert len(lines) == 1
    assert '"action":"set aside collection","subject":"exact"' in lines[0]
    assert not folder.exists()
    assert [path.read_text() for path in store_folder(config).glob("*/entry")] == ["kept"]
