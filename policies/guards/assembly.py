"""From the configuration's lists of guards to the two policies and the digest that caches need.

Looked up by name, and so loaded, only where guards are configured: it brings numpy and RE2.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from policies.guards.asked import Http, Own, find_check
from policies.guards.asking import Asker
from policies.guards.judge import Judge, Memory
from policies.guards.plan import Guards, Scanner
from policies.guards.registry import build
from policies.guards.report import Reporter
from policies.guards.security import Security
from policies.guards.settings import GuardConfig, HttpConfig, OwnConfig, Post, Side, name_of
from policies.input_guards import InputGuards
from policies.output_guards import OutputGuards
from proxy.call import Call

_THREADS = 4
_KEY = 32


class Guarding:
    """The guards of one configuration. Raises ValueError that names the guard which cannot be built.

    `now` counts seconds; `with_texts` lets the security log hold what clients sent.
    """

    def __init__(  # noqa: PLR0913 - collaborators, by name
        self,
        inputs: Side,
        outputs: Side,
        *,
        security: Security,
        post: Post,
        now: Callable[[], float],
        with_texts: bool,
    ) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "guard") if _own(inputs, outputs) else None
        self._post = post
        guards = Guards(inputs, outputs, self._build)
        memory, passed = Memory(os.urandom(_KEY)), Memory(os.urandom(_KEY))
        asker, reporter = Asker(memory), Reporter(security, with_texts=with_texts)
        self.digest: Callable[[Call], bytes] = guards.digest
        self.input = InputGuards(guards, Judge(memory, now), asker, reporter, passed) if inputs.is_any else None
        self.output = OutputGuards(guards, asker, reporter) if outputs.is_any else None

    async def aclose(self) -> None:
        """Let the threads go; a check that still runs is not waited for."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _build(self, config: GuardConfig) -> Scanner:
        try:
            if isinstance(config, HttpConfig):
                return Http(config, self._post)
            if isinstance(config, OwnConfig) and self._threads is not None:
                return Own(config, find_check(config), self._threads)
            return build(config)
        except ValueError as error:
            raise ValueError(f"the guard {name_of(config)!r}: {error}") from error


def _own(*sides: Side) -> Iterable[GuardConfig]:
    return [config for side in sides for config in side.all() if isinstance(config, OwnConfig)]
