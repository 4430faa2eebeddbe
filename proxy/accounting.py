"""Puts together what keeps accounts: the database, what budgets have left, and the ledger."""

import importlib
import time
from collections.abc import Callable
from pathlib import Path

from proxy.accounts import Accounts
from proxy.bookkeeper import Bookkeeper
from proxy.config import Config
from proxy.outbox import Outbox
from proxy.sql import SqliteStore, Store

_SQLITE = "sqlite:///"


def open_store(config: Config) -> Store:
    """Where accounts and ledger are kept. Nothing is opened yet."""
    url = config.database_url
    if url.startswith(_SQLITE):
        return SqliteStore(Path(url.removeprefix(_SQLITE)))
    make: Callable[[str], Store] = importlib.import_module("proxy.sql_postgres").PostgresStore
    return make(url)


def bookkeeper(config: Config, store: Store, outbox: Outbox, accounts: Accounts) -> Bookkeeper:
    """The service that brings the outbox's records into the ledger."""
    keep, lease = config.ledger.keep, config.budgeting.lease
    return Bookkeeper(store, outbox, accounts, keep=keep, lease=lease, now=time.time)
