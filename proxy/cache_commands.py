"""`lockgate cache stats | clear | explain | migrate | calibrate`: the first three ask the running gateway, which owns the store."""

import argparse
import http.client
import importlib
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from proxy.audit import audit_command
from proxy.caches import store_folder
from proxy.calibrate import calibrate
from proxy.config import Config
from proxy.entries import StoreUnavailable
from proxy.keepers import Keepers

Json = dict[str, Any]

_COLLECTIONS = ("exact", "semantic")
_OK = 200
_TIMEOUT = 30.0


def add_cache_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", parent: argparse.ArgumentParser
) -> None:
    """`lockgate cache …`."""
    cache = commands.add_parser("cache", help="look at the caches, clear them, say why a call hits or not")
    actions = cache.add_subparsers(dest="action", required=True, metavar="ACTION")
    remote = argparse.ArgumentParser(add_help=False, parents=[parent])
    remote.add_argument("--url", help="the running gateway (default: host and port of the configuration)")
    actions.add_parser("stats", parents=[remote], help="what they did and what they hold")
    clear = actions.add_parser("clear", parents=[remote], help="remove entries")
    clear.add_argument("--route")
    clear.add_argument("--partition")
    clear.add_argument("--older-than", metavar="AGE", help="such as 1h")
    clear.add_argument("--tier", choices=["exact", "semantic"])
    clear.add_argument("--everything", action="store_true")
    explain = actions.add_parser("explain", parents=[remote], help="say what makes a call the same as another")
    explain.add_argument("file", help="the body of the call, or - for standard input")
    explain.add_argument("--endpoint", default="chat", help="chat, completions or embeddings")
    explain.add_argument("--partition", default="", help="of whoever would send it")
    explain.add_argument("--header", action="append", default=[], metavar="NAME:VALUE")
    migrate = actions.add_parser(
        "migrate", parents=[parent], help="begin a collection anew, for vectors of another length"
    )
    migrate.add_argument("collection", help="exact or semantic")
    calibrate = actions.add_parser(
        "calibrate", parents=[parent], help="measure from which similarity on the semantic cache may answer"
    )
    calibrate.add_argument("--embedder", choices=["use", "minilm"], help="instead of the configured one")


def cache_request(options: argparse.Namespace) -> tuple[str, str, Json | None]:
    """Method, path and body of what is asked of the gateway. Raises OSError for a file that cannot be read."""
    if options.action == "stats":
        return "GET", "/system/cache/stats", None
    if options.action == "clear":
        given: Json = {
            "route": options.route,
            "partition": options.partition,
            "older_than": options.older_than,
            "tier": options.tier,
            "everything": options.everything or None,
        }
        return "POST", "/system/cache/clear", {name: value for name, value in given.items() if value is not None}
    text = sys.stdin.read() if options.file == "-" else Path(options.file).read_text(encoding="utf-8")
    try:
        body = json.loads(text)
    except ValueError as error:
        raise OSError(f"{options.file} is not JSON: {error}") from None
    pairs = (each.partition(":") for each in options.header)
    headers = {name.strip(): value.strip() for name, _, value in pairs}
    explained = {"body": body, "endpoint": options.endpoint, "partition": options.partition, "headers": headers}
    return "POST", "/system/cache/explain", explained


def cache_command(options: argparse.Namespace, config: Config) -> int:
    """Ask the gateway and print what it says. Raises OSError when nothing answers."""
    method, path, body = cache_request(options)
    parts = urlsplit(options.url or f"http://{config.server.host}:{config.server.port}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=_TIMEOUT)
    headers = {"content-type": "application/json", "authorization": f"Bearer {config.secrets.admin_key.reveal()}"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
    except ValueError:
        raise OSError(f"what answers at {parts.geturl()} is no gateway") from None
    finally:
        connection.close()
    print(json.dumps(told, indent=2, ensure_ascii=False))
    return 0 if answer.status == _OK else 1


async def cache_work(options: argparse.Namespace, config: Config) -> int:
    """The actions that ask no gateway. Raises OSError."""
    if options.action == "calibrate":
        return await calibrate(config, options.embedder)
    return await migrate(config, options.collection)


async def migrate(config: Config, collection: str) -> int:
    """Set a collection aside (embedded), or drop it (server); 1 when it is not there. `collection` is the cache's name,
    with or without the prefix that it has on a server: nothing else there is touched.

    Raises OSError for another name, for a server that is away, and while an instance runs on the state.
    """
    name = collection.removeprefix(config.qdrant.prefix)
    if name not in _COLLECTIONS:
        raise OSError(f"the caches have no collection {collection!r}: name {' or '.join(_COLLECTIONS)}")
    if config.qdrant.url:
        return await _drop(config, config.qdrant.prefix + name)
    keepers = Keepers.open(config)  # nobody else has the folder while we hold it
    try:
        folder = store_folder(config) / name
        there = folder.exists()
        target = importlib.import_module("adapters.qdrant_folders").set_aside(folder) if there else None
    finally:
        await keepers.aclose()
    if target is not None:
        audit_command("set aside collection", folder.name)
    print(f"{folder} does not exist" if target is None else f"set aside as {target}; it begins anew at the next start")
    return 0 if target is not None else 1


async def _drop(config: Config, collection: str) -> int:
    """Raises OSError."""
    admin = importlib.import_module("adapters.qdrant_admin").QdrantAdmin(
        config.qdrant.url, config.qdrant.api_key.reveal()
    )
    try:
        dropped = await admin.drop(collection)
    except StoreUnavailable as error:
        raise OSError(f"{collection} is not dropped from {config.qdrant.url}: {error}") from None
    finally:
        await admin.aclose()
    if dropped:
        audit_command("drop collection", collection)
    print(f"{collection} is dropped; it is made anew at the next start" if dropped else f"{collection} does not exist")
    return 0 if dropped else 1
