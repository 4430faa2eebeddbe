"""What the semantic cache costs a call before anything is embedded, and what the pair guard costs a candidate."""

import json

from calls import a_call
from micro import Cases, Timed

from policies.pair_guard.compare import PairGuard
from policies.pair_guard.tables import Tables
from policies.semantic_text import Eligibility, Words

_ONE = "How do I renew my passport if I live abroad?"
_OTHER = "What is the best way to renew my passport when I live abroad?"


def register(cases: Cases) -> None:
    """Eligibility, and pairs of short questions."""

    @cases.case("semantic_cache: eligibility of a short question", goal_ns=60_000)
    def eligibility() -> Timed:
        reader = Eligibility(Words.load(), 256)
        call = a_call(json.dumps({"model": "m", "messages": [{"role": "user", "content": _ONE}]}).encode())
        return lambda: reader.read(call)

    @cases.case("pair_guard: a pair, both texts read before", goal_ns=60_000)
    def read_before() -> Timed:
        guard = PairGuard(Tables.load())
        return lambda: guard.judge(_ONE, _OTHER)

    @cases.case("pair_guard: a pair, one of its texts new")
    def one_new() -> Timed:
        guard, numbers = PairGuard(Tables.load()), iter(range(10**9))
        return lambda: guard.judge(f"{_ONE} {next(numbers)}", _OTHER)
