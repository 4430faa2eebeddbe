"""What the commands do."""

import asyncio
import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import yaml
from litestar.types import ControllerRouterHandler

from adapters.fake_server import serve as serve_fake
from policies.guards.settings import InjectionConfig, Side
from proxy.admin import admin_handlers, admins_only, local_guard, scrapers_or, who_asks
from proxy.admin_money import money_handlers
from proxy.app import build, describe, explain_route
from proxy.build import Plan
from proxy.cache_admin import cache_handlers
from proxy.config import Config
from proxy.config_file import ConfigError, parse_config
from proxy.edge import Edge
from proxy.errors import UnknownModel
from proxy.exposure import identity_notes
from proxy.health import Health, State
from proxy.import_litellm import convert
from proxy.keepers import Keepers
from proxy.logs import set_up_logs
from proxy.observe import observing_handlers
from proxy.restart import waiting
from proxy.runtime import Runtime
from proxy.security_metrics import security_handlers
from proxy.server import Server, listen
from proxy.web import make_app, make_web

logger = logging.getLogger("lockgate")

Load = Callable[[], Config]

_RETIRE_STEP = 0.2


async def serve(load: Load, path: Path | None) -> int:
    """Run an instance until a signal ends it. Raises ConfigError, OSError."""
    config = load()
    set_up_logs(config.log, os.environ)
    keepers = Keepers.open(config)
    try:
        await keepers.start()
        runtime, planned = build(config, keepers, os.environ)
        edge = Edge(runtime)
        health = Health(_parts(edge, keepers))
        server = Server(
            make_app(edge, make_web(health, handlers(edge, health, keepers, config))),
            edge,
            health,
            drain_delay=config.server.drain_delay,
            drain_timeout=config.server.drain_timeout,
            reload=Reloader(load, config, keepers, edge),
        )
        listener = listen(config.server.host, config.server.port)
        host, port = listener.getsockname()[:2]

        def begun() -> None:
            keepers.pulse.forget()  # libraries were loaded on the loop
            say(_banner(host, port, path, planned))

        await server.run(listener, begun)
        await edge.runtime.aclose()
    finally:
        await keepers.aclose()
    return 0


def handlers(edge: Edge, health: Health, keepers: Keepers, config: Config) -> list[ControllerRouterHandler]:
    """The routes of people and operators: every one that is not OpenAI's, a page or a health check."""
    admins = admins_only(edge, local_guard(config))
    scrapers = scrapers_or(config.metrics.token, admins)
    caches = keepers.caches
    return [
        *admin_handlers(edge, keepers.cooldowns, admins),
        *observing_handlers(edge, health, keepers, admins, scrapers),
        *money_handlers(keepers.store, admins, time.time),
        *security_handlers(keepers.security.summary, [admins]),
        *(cache_handlers(caches, edge, [admins], who_asks(edge, config), time.time) if caches is not None else ()),
        *(keepers.identity.handlers(edge) if keepers.identity is not None else ()),
    ]


async def fake(host: str, port: int) -> int:
    """Serve the scripted provider until a signal ends it."""
    server, bound = await serve_fake(host, port)
    say([f"listening on http://{host}:{bound}"])
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await server.aclose()
    return 0


def check(config: Config, path: Path | None) -> int:
    """Print what a configuration comes to."""
    planned, names = describe(config, os.environ)
    say([f"{path or 'the built-in configuration'}: ok", "", "policies, in order:"])
    say(f"{number:3}. {name}" for number, name in enumerate((*names, "provider"), 1))
    say(["", "routes:", *(f"  {line}" for line in _routes(planned))])
    if planned.absent:
        say(["", "not there:", *(f"  {name}: {why}" for name, why in planned.absent.items())])
    say(f"note: {note}" for note in identity_notes(config))
    return 0


def explain(config: Config, model: str) -> int:
    """Print where a call for this model would go, and why."""
    try:
        say(explain_route(config, os.environ, model))
    except UnknownModel as error:
        say([error.message, "Routes: " + ", ".join(config.routes)])
        return 1
    return 0


def guard_test(config: Config, source: BinaryIO, name: str, route: str = "") -> int:
    """Say of each line what the input guards make of it, with which score, and which layers fired.

    Every line is UTF-8 and no longer than a request may be. Blank ones are passed over. Raises ConfigError, OSError.
    """
    if route and route not in config.routes:
        raise ConfigError([f"there is no route {route!r}; there are: {', '.join(config.routes)}"])
    own = {route: config.routes[route].input_guards} if route else {}
    configured = Side(config.input_guards, own).of(route)
    make = importlib.import_module("policies.guards.explain").Explainer  # its libraries load only where used
    try:
        explainer = make(configured or (InjectionConfig(),))
    except ValueError as error:
        raise ConfigError([f"input_guards: {error}"]) from None
    say([] if configured else ["no guard is configured here; this is what the shipped one would do"])
    say([*(f"guard {line}" for line in explainer.heading), ""])
    judged = 0
    for text in _texts(source, name, int(config.server.body_limit)):
        say(explainer.explain(text))
        judged += 1
    if not judged:
        raise OSError(f"{name}: there is no text in it")
    return 0


def _texts(source: BinaryIO, name: str, limit: int) -> Iterator[str]:
    number = 0
    while line := source.readline(limit + 1):
        number += 1
        if len(line) > limit:
            raise OSError(f"{name}, line {number}: longer than server.body_limit lets a request be")
        try:
            text = line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise OSError(f"{name}, line {number}: this is not UTF-8") from None
        if text.strip():
            yield text


def import_litellm(file: Path, environment: Mapping[str, str]) -> int:
    """Print a LiteLLM proxy's configuration as ours on standard output, and what was left out on standard error."""
    try:
        source = yaml.safe_load(file.read_text(encoding="utf-8"))
        ours, notes = convert(source if isinstance(source, dict) else {})
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError([f"{file}: {error}"]) from None
    text = yaml.safe_dump(ours, sort_keys=False, width=120)
    parse_config(text, environment)
    say([f"# from {file.name} by lockgate import litellm", text])
    print("\n".join(notes), file=sys.stderr)
    return 0


def say(lines: Iterable[str]) -> None:
    """Print for people, at once."""
    for line in lines:
        print(line, flush=True)


def _parts(edge: Edge, keepers: Keepers) -> dict[str, Callable[[], State]]:
    def providers() -> State:
        standings = [
            keepers.cooldowns.standing(deployment.id) != "cooling"
            for route in edge.runtime.router.exact.values()
            for deployment in route.deployments
        ]
        return "ok" if all(standings) else "degraded"

    return {"providers": providers, **{each.name: each.state for each in keepers.services}}


class Reloader:
    """Puts a new configuration in place of the old one, whole or not at all; says itself what went wrong.

    `began` is the configuration of the start, by which what was made then goes on.
    """

    def __init__(self, load: Load, began: Config, keepers: Keepers, edge: Edge) -> None:
        self._load = load
        self._began = began
        self._keepers = keepers
        self._edge = edge
        self._retiring: set[asyncio.Task[None]] = set()

    def __call__(self) -> None:
        """Reload now. Must run on the loop."""
        try:
            config = self._load()
            runtime, _ = build(config, self._keepers, os.environ)
        except (ConfigError, OSError) as error:
            logger.error("not reloaded, the old configuration stays: %s", error)  # noqa: TRY400 - no traceback to show
            return
        set_up_logs(config.log, os.environ)
        old, self._edge.runtime = self._edge.runtime, runtime
        task = asyncio.get_running_loop().create_task(_retire(old))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        wait = waiting(self._began, config)
        logger.info("reloaded%s", f"; changes of these wait for a restart: {', '.join(wait)}" if wait else "")


async def _retire(runtime: Runtime) -> None:
    """Close an old runtime when its last call is over."""
    while runtime.calls:  # noqa: ASYNC110 - rare and unhurried; the hot path does not pay for an event
        await asyncio.sleep(_RETIRE_STEP)
    await runtime.aclose()


def _routes(planned: Plan) -> list[str]:
    lines = []
    for name, route in planned.routes.items():
        places = ", ".join(f"{each.provider} {each.model}" for each in route.deployments)
        then = f" → {', '.join(route.fallbacks)}" if route.fallbacks else ""
        label = "  (scripted stand-in, not a real model)" if name in planned.stand_ins else ""
        lines.append(f"{name}: {places}{then}{label}")
    return lines


def _banner(host: str, port: int, path: Path | None, planned: Plan) -> list[str]:
    url = f"http://{host}:{port}"
    names = [name for name in planned.routes if not name.endswith("*")] or ["fake/echo"]
    model = names[0]
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    return [
        f"listening on {url}",
        f"configuration: {path or 'built-in (no lockgate.yaml here)'}",
        *(f"  {line}" for line in _routes(planned)),
        *(f"  not there: {name}: {why}" for name, why in planned.absent.items()),
        "try:",
        f"  curl {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'",
    ]
