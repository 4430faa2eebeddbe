"""A shard's own form of an entry; what every store promises stands in `test_qdrant.py`."""

import math
from pathlib import Path
from random import Random
from typing import Any

import pytest
import qdrant_edge as edge

from adapters.qdrant_shard import Shard
from proxy.entries import Entry, StoreUnavailable

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


def test_a_shard_of_single_floats_as_earlier_versions_kept_is_searched_and_added_to(tmp_path: Path) -> None:
    """Its form stays as it is: the engine opens no shard in another."""
    folder = tmp_path / "shard"
    folder.mkdir()
    vectors = {"v": edge.EdgeVectorParams(size=4, distance=edge.Distance.Cosine)}
    edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=vectors)).close()
    for number in (1, 2):
        shard = Shard(folder, 4)
        vector = [0.6, 0.8, 0.0, 0.0] if number == 1 else [0.0, 0.0, 0.6, 0.8]
        shard.put([entry(number, vector)])
        found = dict(shard.nearest(vector, fingerprint="f", limit=2, floor=0.5))
        assert found == pytest.approx({f"{number:032x}": 1.0})
        shard.close()


def test_similarities_are_those_of_the_vectors_as_they_were_given(tmp_path: Path) -> None:
    """To the fourth digit at least, after a restart too: thresholds are told in thousandths."""
    draw = Random(1)
    vectors = [unit([draw.gauss(0, 1) for _ in range(512)]) for _ in range(200)]
    asked = unit([draw.gauss(0, 1) + 30 * vectors[7][k] for k in range(512)])
    shard = Shard(tmp_path / "shard", 512)
    shard.put([entry(number, vector) for number, vector in enumerate(vectors)])
    for _ in range(2):
        found = dict(shard.nearest(asked, fingerprint="f", limit=200, floor=-1.0))
        assert len(found) == 200
        for number, vector in enumerate(vectors):
            exact = sum(x * y for x, y in zip(asked, vector, strict=True))
            assert found[f"{number:032x}"] == pytest.approx(exact, abs=5e-5)
        shard.close()
        shard = Shard(tmp_path / "shard", 512)
    shard.close()


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def entry(number: int, vector: list[float]) -> Entry:
    return Entry(id=f"{number:032x}", partition="p", route="r", fingerprint="f", body=b"{}", created=1, expires_at=2, vector=vector, meta={})  # fmt: skip
