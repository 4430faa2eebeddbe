"""Identity put together: the database, what is known of it, keys, tokens, logins, and their routes."""

import os
import time
from pathlib import Path
from secrets import token_hex

from litestar.types import ControllerRouterHandler

from policies.authenticate import AuthenticateConfig
from proxy.admin import admins_only
from proxy.admin_keys import Stores, identity_handlers
from proxy.auth_routes import Current, auth_handlers
from proxy.authority import LoginConfig, UserConfig
from proxy.callers import AddressOf, Callers
from proxy.config import Config, Secrets
from proxy.directory import Directory
from proxy.edge import Edge
from proxy.failures import Failures
from proxy.families import Families
from proxy.grants import Grants
from proxy.health import State
from proxy.issuers import Fetch, Issuers
from proxy.key_store import KeyStore
from proxy.keys import Keys
from proxy.login import Login
from proxy.passwords import Passwords
from proxy.state import Database
from proxy.tokens import Signer, Tokens
from proxy.user_store import OwnerStore, User, UserStore
from proxy.values import Secret

_SIGNING_BYTES = 32


class Identity:
    """One an instance; outlives reloads, at each of which `configure` is called. `database` is started before it."""

    name = "identity"

    def __init__(self, database: Database, config: AuthenticateConfig, state_dir: Path) -> None:
        self._database = database
        self._state_dir = state_dir
        self._directory = Directory(
            database, every=config.watch, grace=config.grace, now=time.monotonic, wall=time.time
        )
        self._key_store = KeyStore(database, time.time)
        self._keys = Keys(self._key_store, self._directory, now=time.monotonic, wall=time.time)
        self._issuers = Issuers(time.monotonic)
        self._tokens = Tokens(self._issuers, self._directory, time.time)
        self._passwords = Passwords()
        self._failures = Failures(config.failures, time.monotonic)
        self._configured: frozenset[str] = frozenset()
        self._login: Login | None = None
        self.callers = Callers(Secret(), self._failures)

    def configure(self, config: AuthenticateConfig, secrets: Secrets, *, fetch: Fetch, address_of: AddressOf) -> None:
        """Go by this configuration from now on. Raises OSError when the signing secret cannot be kept."""
        signer = Signer(self._secret(secrets.signing)) if config.login is not None else None
        self._directory.every, self._directory.grace = config.watch, config.grace
        self._failures.limit = config.failures
        self._issuers.configure(config.issuers, fetch)
        users = {each.name: _user(each) for each in config.login.users} if config.login is not None else {}
        self._tokens.configure(signer, users)
        self._configured = frozenset(users)
        self._login = None if config.login is None or signer is None else self._make_login(config.login, signer)
        has_tokens = config.login is not None or bool(config.issuers)
        self.callers.configure(
            secrets.admin_key,
            keys=self._keys if config.keys else None,
            tokens=self._tokens if has_tokens else None,
            address_of=address_of,
        )

    async def start(self) -> None:
        """Read what must be known. Raises OSError."""
        await self._directory.start()
        self._issuers.start()

    async def aclose(self) -> None:
        """Watch no more."""
        await self._issuers.aclose()
        await self._directory.aclose()
        self._passwords.close()

    def state(self) -> State:
        """The worst of its parts: the view of the database, the keys of issuers."""
        directory = self._directory.state()
        return "degraded" if directory == "ok" and not self._issuers.are_fresh() else directory

    def handlers(self, edge: Edge) -> list[ControllerRouterHandler]:
        """`/auth/*` and the administration of keys, users and owners."""
        stores = Stores(
            keys=self._key_store,
            users=UserStore(self._database, time.time, lambda: self._configured),
            owners=OwnerStore(self._database, time.time),
            passwords=self._passwords,
            look=self._directory.look,
        )
        return [*auth_handlers(self._current), *identity_handlers(stores, admins_only(edge))]

    def _current(self) -> Current:
        return Current(self.callers, self._tokens, self._login)

    def _make_login(self, config: LoginConfig, signer: Signer) -> Login:
        return Login(
            config,
            database=self._database,
            families=Families(self._database, time.time),
            tokens=self._tokens,
            signer=signer,
            passwords=self._passwords,
            failures=self._failures,
            look=self._directory.look,
            wall=time.time,
        )

    def _secret(self, configured: Secret) -> bytes:
        return configured.reveal().encode() if configured else kept_secret(self._state_dir / "signing.key")


def open_identity(config: Config, database: Database) -> Identity:
    """What a configuration with authentication needs."""
    return Identity(database, config.authenticate or AuthenticateConfig(), Path(config.server.state_dir))


def open_database(config: Config) -> Database:
    """The configured database. Raises OSError."""
    try:
        return Database(config.database_url)
    except ValueError as error:
        raise OSError(f"database: {error}") from None


def kept_secret(path: Path) -> bytes:
    """A random secret, made at first use and kept in a file for its owner only. Raises OSError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        kept = path.read_bytes().strip()
        if len(kept) < _SIGNING_BYTES:
            raise OSError(f"{path} holds no signing secret: remove it, and everybody logs in again") from None
        return kept
    with os.fdopen(handle, "wb") as file:
        made = token_hex(_SIGNING_BYTES).encode()
        file.write(made + b"\n")
    return made


def _user(config: UserConfig) -> User:
    grants = Grants(
        owner=config.owner,
        models=config.models,
        role=config.role,
        rpm=config.rpm,
        tpm=config.tpm,
        parallel=config.parallel,
        tags=config.tags,
    )
    return User(config.name, config.password_hash.reveal(), grants)
