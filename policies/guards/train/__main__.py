"""`python -m policies.guards.train`: weights.npz, calibration.json and training.json from the training data.

Data: `guards/train.jsonl` in the folder named by LOCKGATE_DATA, and own.yaml beside this file; nothing else. Needs the
`train` extra (scikit-learn, scipy). Deterministic: the same data gives the same weights.
"""

import hashlib
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from policies.guards.injection import HERE, Calibration
from policies.guards.train.fit import Calibrated, Corpus, Fitted, calibrate, fit_all, quantise
from policies.guards.train.grammar import Example, expand

SEED: Final = 7
NEAR: Final = 90  # characters of the plain text: rows that share them count once
LICENCES: Final = {
    "public": "MIT, Apache-2.0 or CC0-1.0, as their publishers state",
    "own": "Apache-2.0, written for this project (own.yaml)",
}


class Row(msgspec.Struct):
    """One line of train.jsonl."""

    text: str
    label: str
    set: str


def read(path: Path) -> list[Example]:
    """The public examples."""
    rows = [msgspec.json.decode(line, type=Row) for line in path.read_bytes().splitlines()]
    return [Example(row.text, row.label == "attack", row.set) for row in rows]


def write(fitted: Fitted, found: Calibrated, corpus: Corpus, source: bytes) -> None:
    """Write the three files into the package; the version is a digest of the weights."""
    weights, scale = quantise(fitted.weights)
    version = hashlib.sha256(weights.tobytes() + repr((scale, fitted.bias)).encode()).hexdigest()[:16]
    np.savez_compressed(HERE / "weights.npz", weights=weights, scale=scale, bias=fitted.bias, version=version)
    calibration = Calibration(version, found.boosts, found.user, found.tool)
    (HERE / "calibration.json").write_bytes(msgspec.json.format(msgspec.json.encode(calibration)) + b"\n")
    counts = Counter((example.origin, example.attack) for example in corpus.examples)
    manifest = {
        "command": "make train-guard",
        "train.jsonl sha256": hashlib.sha256(source).hexdigest(),
        "licences": LICENCES,
        "flagged when the set was left out": found.unseen,
        "rows used": {
            f"{origin} {'attack' if attack else 'benign'}": count for (origin, attack), count in sorted(counts.items())
        },
    }
    (HERE / "training.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")


def main() -> int:
    """Train, or say that the data is absent (exit code 2)."""
    folder = os.environ.get("LOCKGATE_DATA", "")
    path = Path(folder) / "guards" / "train.jsonl"
    if not folder or not path.is_file():
        print("LOCKGATE_DATA names no folder with guards/train.jsonl: nothing trained", file=sys.stderr)
        return 2
    corpus = Corpus(read(path) + expand(Path(__file__).parent / "own.yaml", SEED), NEAR)
    found = calibrate(corpus)
    write(fit_all(corpus), found, corpus, path.read_bytes())
    print(f"{found.boosts}\nuser {found.user}\ntool results {found.tool}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
