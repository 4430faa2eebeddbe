"""The steps of the database's schema, and how a database that is away is told: what every way to it shares."""

from importlib.resources import files

import msgspec

from proxy.errors import Overloaded

_RETRY = 5.0
"""Seconds after which a client may try again."""


class DatabaseAwayError(Overloaded):
    """The database does not answer; what it would have said is not known. The detail is for our log."""

    def __init__(self, detail: str) -> None:
        super().__init__("The gateway's database does not answer: try again.", retry_after=_RETRY)
        self.detail = detail


class RefusedError(Exception):
    """The database is there and will not take these values, however often it is tried."""


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema: statements that both engines understand, applied once, in order, whole or not at all."""

    version: int
    name: str
    statements: tuple[str, ...]


def migrations() -> list[Migration]:
    """The steps that this version brings: `migrations/NNNN-name.sql`, a statement ends with `;` at a line's end."""
    found = []
    for file in (files("proxy") / "migrations").iterdir():
        number, _, name = file.name.removesuffix(".sql").partition("-")
        if file.name.endswith(".sql"):
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("--")]
            statements = tuple(each.strip() for each in "\n".join(lines).split(";\n") if each.strip(" \n;"))
            found.append(Migration(int(number), name, statements))
    return sorted(found, key=lambda step: step.version)


def refuse_newer(done: set[int], steps: list[Migration]) -> None:
    """Raise OSError when a schema has steps that are not among ours."""
    unknown = done - {step.version for step in steps}
    if unknown:
        raise OSError(f"its schema has step {max(unknown)}, which this version does not know: use a newer Lockgate")
