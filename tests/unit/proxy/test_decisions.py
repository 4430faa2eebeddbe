"""A record told as decisions."""

from support.sealed import sealed

from proxy.call import Attempt, Usage, Verdict, Window
from proxy.decisions import decisions, lines


def test_decisions_stand_in_the_order_in_which_they_were_made() -> None:
    """Caller, limits, route, input guards, cache, attempts, output guards, figures, end."""
    record = sealed(
        requests=Window(60, 59, 1.0),
        tokens=Window(1000, 680, 19.2),
        queued=0.2,
        changed=["temperature"],
        guards=[
            Verdict("injection", "flag", where="messages[0]", score=0.6),
            Verdict("secrets", "redact", side="output"),
        ],
        flight="led",
        cache="miss",
        similarity=0.91,
        candidates=[("7f", 0.91, "another number in it")],
        attempts=[
            Attempt("openai", "gpt-4o", "a", 503, "status", seconds=0.1),
            Attempt("openai", "gpt-4o", "a", None, "timeout", wait=0.25, seconds=1.0),
            Attempt("groq", "kimi", "b", 200, "ok", seconds=0.4),
        ],
        dropped=["logit_bias"],
        usage=Usage(200, 120, cached=64, estimated=True),
        cost=1_234_567,
        saved=None,
    )
    told = decisions(record)
    assert [(each.step, each.verdict) for each in told] == [
        ("caller", "anyone"),
        ("limit", "requests"),
        ("limit", "tokens"),
        ("queue", "waited"),
        ("route", "chat"),
        ("parameters", "changed"),
        ("guard", "flag"),
        ("flight", "led"),
        ("cache", "miss"),
        ("candidate", "another number in it"),
        ("attempt", "status"),
        ("wait", "paused"),
        ("retry", "timeout"),
        ("fallback", "ok"),
        ("parameters", "dropped"),
        ("guard", "redact"),
        ("answer", "began"),
        ("usage", "estimated"),
        ("cost", "0.001234567 USD"),
        ("end", "complete"),
    ]
    details = {each.step: each.detail for each in told}
    assert "score 0.600" in next(each.detail for each in told if each.verdict == "flag")
    assert details["candidate"] == "similarity 0.9100, entry 7f"
    assert details["usage"] == "200 in, 120 out, 64 cached"
    assert details["fallback"] == "groq kimi, status 200"


def test_a_refused_call_is_told_as_far_as_it_came() -> None:
    record = sealed(
        model="", route="", provider="", upstream_model="", attempts=[], usage=None, first_content=None,
        status=401, outcome="error", error="invalid_api_key",
    )  # fmt: skip
    told = decisions(record)
    assert [each.step for each in told] == ["caller", "end"]
    assert told[-1].detail == "status 401, invalid_api_key"


def test_a_terminal_gets_a_line_each() -> None:
    text = lines(decisions(sealed()))
    assert len(text) == len(decisions(sealed()))
    assert any("400.0 ms" in line and "openai gpt-4o" in line for line in text)
