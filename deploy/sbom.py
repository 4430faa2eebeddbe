"""Writes a CycloneDX bill of materials for what a lock file installs into the running environment.

Run in the image's build: `python deploy/sbom.py deploy/requirements.lock > sbom.cdx.json`. Licences come from the installed
packages' own metadata; hashes from the lock.
"""

import json
import re
import sys
from importlib import metadata
from pathlib import Path

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def locked(text: str) -> dict[tuple[str, str], list[str]]:
    """SHA-256 digests by name and version; a package may stand there in several versions, each for other systems."""
    found: dict[tuple[str, str], list[str]] = {}
    digests: list[str] = []
    for line in text.splitlines():
        pinned = _PINNED.match(line)
        if pinned:
            digests = found.setdefault((pinned[1].lower(), pinned[2]), [])
        digests.extend(_HASH.findall(line))
    return found


def licence(name: str) -> str:
    """What an installed package says of its licence, in a line."""
    about = metadata.metadata(name)
    said = about.get("License-Expression") or next(
        (each.rsplit(" :: ", 1)[-1] for each in about.get_all("Classifier") or [] if each.startswith("License ::")), ""
    )
    return said or (about.get("License") or "not stated").strip().splitlines()[0][:80]


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def bill(lock: str) -> dict[str, object]:
    """The bill: what the lock names and is installed here (the rest is for other systems)."""
    components = []
    for (name, version), digests in sorted(locked(lock).items()):
        if _installed(name) != version:
            continue
        components.append(
            {
                "type": "library",
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{name}@{version}",
                "licenses": [{"license": {"name": licence(name)}}],
                "hashes": [{"alg": "SHA-256", "content": digest} for digest in digests],
            }
        )
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}


if __name__ == "__main__":
    json.dump(bill(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.stdout, indent=1)
