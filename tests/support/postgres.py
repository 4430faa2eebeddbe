"""A real PostgreSQL from the system's packages, on a free port, for as long as a test needs it."""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg

_START = 30.0


def postgres_folder() -> Path | None:
    """Where its programs are; None when it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent
    other = shutil.which("postgres")
    return Path(other).parent if other else None


class Postgres:
    """One server with an empty database; `stop` and `start` are an outage."""

    def __init__(self, programs: Path, folder: Path, port: int) -> None:
        self._programs = programs
        self._folder = folder
        self._port = port
        self.url = f"postgresql://lockgate@127.0.0.1:{port}/postgres"

    def make(self) -> None:
        """Make its files."""
        self._folder.mkdir(parents=True)
        self._give()
        self._run("initdb", "--pgdata", str(self._folder / "data"), "--username", "lockgate", "--auth", "trust",
                  "--no-sync", "--encoding", "UTF8", "--locale", "C")  # fmt: skip

    async def start(self) -> None:
        """Start it and wait until it answers."""
        await asyncio.to_thread(self.start_now)

    def start_now(self) -> None:
        """The same, for who has no loop."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._run("pg_ctl", "--pgdata", str(self._folder / "data"), "--log", str(self._folder / "log"),
                  "--timeout", str(int(_START)), "-o", options, "--wait", "start")  # fmt: skip

    async def stop(self) -> None:
        """Stop it at once, as a crash would."""
        await asyncio.to_thread(self.stop_now)

    def stop_now(self) -> None:
        """The same, for who has no loop."""
        self._run("pg_ctl", "--pgdata", str(self._folder / "data"), "--mode", "immediate", "--wait", "stop")

    def _give(self) -> None:
        if os.geteuid() == 0:  # it refuses to run as root
            for path in (self._folder, *self._folder.parents):
                if path.owner() == "root" and path.stat().st_mode & 0o001 == 0:
                    path.chmod(path.stat().st_mode | 0o711)
            shutil.chown(self._folder, "postgres", "postgres")

    def _run(self, program: str, *arguments: str) -> None:
        user = "postgres" if os.geteuid() == 0 else None
        done = subprocess.run(
            [self._programs / program, *arguments], user=user, group=user, extra_groups=[] if user else None,
            cwd=self._folder, env={"PATH": os.environ["PATH"], "LC_ALL": "C"}, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, check=False, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")


@asynccontextmanager
async def postgres(folder: Path) -> AsyncIterator[Postgres]:
    """A running server with its files in a new folder. Raises RuntimeError when it is not installed."""
    server = await asyncio.to_thread(_running, folder)
    try:
        yield server
    finally:
        await server.stop()


@contextmanager
def shared_postgres(folder: Path) -> Iterator[Postgres]:
    """The same for tests that share a server, each with a database of its own: see `fresh`."""
    server = _running(folder)
    try:
        yield server
    finally:
        server.stop_now()


def _running(folder: Path) -> Postgres:
    programs = postgres_folder()
    if programs is None:
        raise RuntimeError("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    made = False
    for tries_left in (2, 1, 0):
        server = Postgres(programs, folder, _free_port())
        if not made:
            server.make()
            made = True
        try:
            server.start_now()
        except RuntimeError:  # another program was quicker to take the port
            if not tries_left:
                raise
        else:
            break
    return server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def fresh(server: Postgres, name: str) -> str:
    """The URL of a new database on it."""
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return server.url.removesuffix("/postgres") + f"/{name}"
