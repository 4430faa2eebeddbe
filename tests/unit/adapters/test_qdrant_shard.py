"""A shard's own form of an entry; what every store promises stands in `test_qdrant.py`."""

from pathlib import Path
from typing import Any

import pytest
import qdrant_edge as edge

from adapters.qdrant_shard import Shard
from proxy.entries import StoreUnavailable

ID = "0" * 31 + "1"


def put(shard: Shard, meta: Any) -> None:
    """As another version would have."""
    payload = {
        "partition": "p",
        "route": "r",
        "fingerprint": "f",
        "body": "{}",
        "created": 1,
        "expires_at": 2,
        **({} if meta is None else {"meta": meta}),
    }
    shard._engine.update(edge.UpdateOperation.upsert_points([edge.Point(ID, {}, payload)]))


@pytest.mark.parametrize("meta", [{"shape": "whole", "n": [1]}, '{"shape":"whole","n":[1]}'], ids=["object", "text"])
def test_meta_of_every_version_is_read_and_amended(tmp_path: Path, meta: Any) -> None:
    """It was an object once."""
    shard = Shard(tmp_path / "shard", 0)
    put(shard, meta)
    found = shard.get(ID)
    assert found is not None
    assert found.meta == {"shape": "whole", "n": [1]}
    shard.amend(ID, {"n": 2, "twin": None})
    found = shard.get(ID)
    assert found is not None
    assert found.meta == {"shape": "whole", "n": 2, "twin": None}
    shard.close()


def test_an_entry_without_meta_has_none(tmp_path: Path) -> None:
    """Nothing depends on its being there."""
    shard = Shard(tmp_path / "shard", 0)
    put(shard, None)
    found = shard.get(ID)
    assert found is not None
    assert found.meta == {}
    shard.close()


@pytest.mark.parametrize("meta", ["{", "[]", "null"])
def test_a_damaged_meta_is_a_damaged_entry(tmp_path: Path, meta: str) -> None:
    """And no answer."""
    shard = Shard(tmp_path / "shard", 0)
    put(shard, meta)
    with pytest.raises(StoreUnavailable, match="damaged"):
        shard.get(ID)
    shard.close()


def test_what_is_not_there_is_not_amended(tmp_path: Path) -> None:
    """And does not come into being."""
    shard = Shard(tmp_path / "shard", 0)
    shard.amend(ID, {"n": 1})
    assert shard.get(ID) is None
    shard.close()
