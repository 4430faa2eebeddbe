import pytest
from support.calls import Clock

from policies.cooldown import CooldownConfig, Cooldowns
from proxy.errors import UpstreamDenied, UpstreamLimited, UpstreamUnavailable

CONFIG = CooldownConfig()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cooldowns(clock: Clock) -> Cooldowns:
    return Cooldowns(CONFIG, clock)


def limited(retry_after: float | None, *, exhausted: bool = False) -> UpstreamLimited:
    return UpstreamLimited("no", retry_after=retry_after, exhausted=exhausted)


def broken() -> UpstreamUnavailable:
    return UpstreamUnavailable("no", kind="status", upstream_status=500)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (limited(7.0), 7.0),
        (limited(None), CONFIG.limited),
        (limited(None, exhausted=True), CONFIG.denied),
        (UpstreamDenied("no", kind="denied", upstream_status=401), CONFIG.denied),
    ],
)
def test_a_limit_and_a_bad_credential_rest_at_once(
    cooldowns: Cooldowns, clock: Clock, error: UpstreamLimited, seconds: float
) -> None:
    """One 429 or 401 is enough; it rests as long as it says, else as configured."""
    cooldowns.failed("a", error)
    assert cooldowns.standing("a") == "cooling"
    assert cooldowns.remaining("a") == pytest.approx(seconds)
    clock.now += seconds
    assert cooldowns.standing("a") == "probe"


def test_failures_rest_a_deployment_only_by_rate_over_a_minimum(cooldowns: Cooldowns) -> None:
    """Four failures of four are too few to judge; the fifth is enough."""
    for _ in range(CONFIG.minimum - 1):
        cooldowns.failed("a", broken())
    assert cooldowns.standing("a") == "open"
    cooldowns.failed("a", broken())
    assert cooldowns.standing("a") == "cooling"


def test_a_deployment_that_mostly_answers_does_not_rest(cooldowns: Cooldowns) -> None:
    """Under the share of failures nothing happens, however many."""
    for _ in range(20):
        cooldowns.succeeded("a", 0.1)
        cooldowns.succeeded("a", 0.1)
        cooldowns.failed("a", broken())
    assert cooldowns.standing("a") == "open"


def test_old_failures_do_not_count(cooldowns: Cooldowns, clock: Clock) -> None:
    """Only answers inside the window are judged."""
    for _ in range(CONFIG.minimum - 1):
        cooldowns.failed("a", broken())
    clock.now += CONFIG.window + 1
    cooldowns.failed("a", broken())
    assert cooldowns.standing("a") == "open"


def test_a_rested_deployment_is_probed_by_one_call_only(cooldowns: Cooldowns, clock: Clock) -> None:
    """Half-open: while one call probes, it is cooling for every other."""
    cooldowns.failed("a", limited(1.0))
    clock.now += 1
    assert cooldowns.standing("a") == "probe"
    cooldowns.begin("a")
    assert cooldowns.standing("a") == "cooling"
    cooldowns.give_up("a")
    assert cooldowns.standing("a") == "probe"
    cooldowns.begin("a")
    cooldowns.succeeded("a", 0.1)
    assert cooldowns.standing("a") == "open"


def test_a_failed_probe_rests_again(cooldowns: Cooldowns, clock: Clock) -> None:
    """One failure is enough for a deployment that was just let back."""
    cooldowns.failed("a", limited(1.0))
    clock.now += 1
    cooldowns.begin("a")
    cooldowns.failed("a", broken())
    assert cooldowns.standing("a") == "cooling"
    assert cooldowns.remaining("a") == pytest.approx(CONFIG.failing)


def test_no_provider_can_send_itself_to_sleep_for_ever(cooldowns: Cooldowns) -> None:
    """A Retry-After of years is cut to the longest rest."""
    cooldowns.failed("a", limited(1e9))
    assert cooldowns.remaining("a") == pytest.approx(CONFIG.longest)


def test_what_clients_name_is_remembered_within_bounds(cooldowns: Cooldowns) -> None:
    """Ids that hold clients' model names cannot grow without end."""
    for number in range(10_000):
        cooldowns.succeeded(f"model-{number}", 0.1)
    assert len(cooldowns._health) <= 4096
