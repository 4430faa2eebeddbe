"""What is said of a key that the configuration does not know: where it went, or which one is nearest to it."""

import difflib
import fnmatch
from collections.abc import Collection, Mapping

_LITELLM = "belongs to a LiteLLM proxy's file: lockgate import litellm FILE turns it into one of ours"

MOVED: Mapping[str, str] = {
    "model_list": _LITELLM,
    "litellm_settings": _LITELLM,
    "router_settings": _LITELLM,
    "general_settings": _LITELLM,
}
"""By path, with `*` where a user chose the name: what to write instead. A key that is renamed or moved leaves its old
path here, as `is now NEW.PATH`, for as long as files with it may be about."""


def unknown(path: str, key: str, known: Collection[str], moved: Mapping[str, str] = MOVED) -> str:
    """The problem of a key that stands at `path` and is not among the `known` ones of its place."""
    for old, said in moved.items():
        if fnmatch.fnmatchcase(path, old):
            return f"{path}: {said}"
    near = difflib.get_close_matches(key, known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{path}: unknown key; {meant}known here: {', '.join(known)}"
