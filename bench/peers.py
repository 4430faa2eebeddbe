"""Lockgate, the LiteLLM proxy and Portkey's gateway side by side: plain proxying of the same calls to the same
upstream, each on one core, in one run.

The peers come from their packages, locked under `bench/envs/peers/`, into an environment of their own.
"""

import argparse
import json
import shlex
import socket
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import environments
import measure
import msgspec
import uvloop
from load import Request
from rows import CALL, EVENTS, PLAIN, SHORT
from samples import KINDS, QUICK, Effort, Laboratory, Sample
from servers import Farm, Peer, Server

_LOCKS = Path(__file__).parent / "envs"
_METRICS: Sequence[tuple[str, str, str, Request, int]] = (
    ("CPU per call", "µs", "cpu_call", CALL, 32),
    ("CPU per relayed event", "µs", "cpu_event", EVENTS, 32),
    ("one call at a time, p50", "ms", "latency_p50", CALL, 1),
    ("first content of a stream, one at a time, p50", "ms", "first_p50", SHORT, 1),
    ("memory after a few calls", "MB", "rss_idle", CALL, 1),
    ("start to first answer", "s", "start", CALL, 1),
)
_QUICK = replace(QUICK, warm=2, cpu=0.5)  # the slowest of them needs as long to answer at all
Taken = dict[str, dict[str, list[float]]]
TARGETS = ("direct", "C3", PLAIN, "portkey", "litellm")


class LiteLLM:
    """Its proxy with one model list, one worker, no database, no callbacks."""

    def __init__(self, environment: environments.Environment) -> None:
        self._program = environment.folder / "bin" / "litellm"

    def __call__(self, folder: Path, upstream: str, models: Sequence[str]) -> Server:
        """A running proxy."""
        config = folder / "config.yaml"
        params = {"api_base": f"{upstream}/v1", "api_key": "sk-up"}
        listed = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", **params}} for name in models]
        config.write_text(json.dumps({"model_list": listed}))
        port = _free_port()
        command = [str(self._program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        env = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # plain proxying, as with the others
        }
        return Server(command, folder, measure.SERVER_CORE, url=f"http://127.0.0.1:{port}", env=env)


class Portkey:
    """Its open-source gateway; where to send a call stands in each call's headers."""

    def __init__(self, environment: environments.Environment) -> None:
        self._node = environment.node
        self._script = environment.folder / "node_modules/@portkey-ai/gateway/build/start-server.js"

    def __call__(self, folder: Path, upstream: str, models: Sequence[str]) -> Server:
        """A running gateway."""
        port = _free_port()
        command = [str(self._node), str(self._script), f"--port={port}", "--headless"]
        env = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
        return Server(command, folder, measure.SERVER_CORE, url=f"http://127.0.0.1:{port}", env=env)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _for(target: str, request: Request, upstream: str) -> Request:
    """The request with what this target wants to be told."""
    if target != "portkey":
        return request
    said = (("x-portkey-provider", "openai"), ("x-portkey-custom-host", f"{upstream}/v1"))
    return replace(request, headers=(*request.headers, *said))


async def take(peers: Mapping[str, Peer], effort: Effort) -> tuple[Taken, dict[str, str]]:
    """Every figure of every target, round by round, the targets of one figure side by side; and which calls failed."""
    taken: Taken = {name: {target: [] for target in TARGETS} for name, *_ in _METRICS}
    failed: dict[str, str] = {}
    with Farm([CALL.model, EVENTS.model, SHORT.model], peers) as farm:
        lab = Laboratory(farm, effort)
        upstream = farm.get("direct").url
        for number in range(effort.rounds):
            for name, unit, kind, request, concurrency in _METRICS:
                for target in TARGETS:
                    if target == "direct" and kind in ("rss_idle", "start"):
                        continue
                    sample = Sample(kind, target, _for(target, request, upstream), concurrency)
                    try:
                        figure = await KINDS[kind](lab, sample)
                    except RuntimeError as error:
                        failed[f"{name}: {target}"] = str(error)
                        continue
                    taken[name][target].append(figure)
                    print(f"round {number + 1}: {name} {target} {figure:.2f} {unit}", file=sys.stderr)
    return taken, failed


def table(taken: Taken) -> str:
    """Medians, as a Markdown table."""
    lines = [f"| | {' | '.join(TARGETS)} |", f"|---|{'---|' * len(TARGETS)}"]
    for name, unit, *_ in _METRICS:
        cells = [f"{statistics.median(values):.4g} {unit}" if values else "" for values in taken[name].values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, print the table, keep the figures under `bench/results/`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test whose figures mean nothing")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    measure.pin(measure.LOAD_CORE)
    measure.allow_open_files()
    environment = environments.make("peers", _LOCKS)
    peers: dict[str, Peer] = {"litellm": LiteLLM(environment), "portkey": Portkey(environment)}
    others = measure.Bystanders()
    taken, failed = uvloop.run(
        take(peers, _QUICK if arguments.quick else Effort(rounds=arguments.rounds, warm=4, cpu=4))
    )
    told = table(taken)
    print(told)
    facts = {
        "command": shlex.join(["python", *sys.argv]),
        "commit": measure.commit(),
        "machine": measure.machine(),
        "cores_taken_by_others": round(others.cores(), 3),
        "rounds": taken,
        "failed": failed,
    }
    print(*(f"{what}: {why}" for what, why in failed.items()), sep="\n")
    print(f"\nother processes took {facts['cores_taken_by_others']} cores meanwhile")
    if not arguments.quick:
        path = Path(__file__).parent / "results" / f"peers-{datetime.now(UTC):%Y-%m-%d}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1) + b"\n")
        print(f"kept in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
