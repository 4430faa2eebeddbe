"""The official Python SDK, 2.x and 3.x: every failure is raised as the class, and with the facts, OpenAI would give."""

import environments
import pytest
from reports import Facts, read_report

GREETING = "Grüße, 世界 🌍"
REFUSED = {
    "400": ("BadRequestError", 400, "invalid_request_error", "context_length_exceeded", "messages"),
    "400 unsupported": ("BadRequestError", 400, "invalid_request_error", "unsupported_parameter", "messages"),
    "401": ("InternalServerError", 502, "upstream_error", "upstream_auth_failed", None),
    "404": ("NotFoundError", 404, "invalid_request_error", "model_not_found", "model"),
    "422": ("UnprocessableEntityError", 422, "invalid_request_error", None, None),
    "429": ("RateLimitError", 429, "requests", "upstream_rate_limited", None),
    "429 quota": ("RateLimitError", 429, "requests", "upstream_rate_limited", None),
    "500": ("InternalServerError", 502, "upstream_error", "upstream_unavailable", None),
    "503": ("InternalServerError", 502, "upstream_error", "upstream_unavailable", None),
    "200 with an error": ("InternalServerError", 502, "upstream_error", "upstream_unavailable", None),
    "200 with HTML": ("InternalServerError", 502, "upstream_error", "upstream_unavailable", None),
    "200 with broken JSON": ("InternalServerError", 502, "upstream_error", "upstream_unavailable", None),
    "reset": ("InternalServerError", 502, "upstream_error", "upstream_unavailable", None),
}


@pytest.fixture(scope="module", params=["openai2", "openai3"])
def facts(request: pytest.FixtureRequest, client_env: dict[str, str]) -> Facts:
    """What one run of the client program told, section by section."""
    return read_report(environments.make(request.param).run_python("-m", "openai_sdk", "failures", env=client_env))


@pytest.mark.parametrize("section", ["errors", "errors_of_streams"])
@pytest.mark.parametrize("case", REFUSED)
def test_an_error_is_raised_as_its_class(facts: Facts, section: str, case: str) -> None:
    """Before the first content every failure is a status, a class and four members, streamed calls included."""
    raised = facts(section)[case]
    assert isinstance(raised, dict), raised
    told = (raised["class"], raised["status"], raised["type"], raised["code"], raised["param"])
    assert told == REFUSED[case]
    assert raised["body"]["message"]
    assert set(raised["body"]) == {"message", "type", "param", "code"}
    assert raised["request_id"] == raised["headers"]["x-request-id"]


def test_an_upstream_limit_says_when_to_come_back(facts: Facts) -> None:
    """The upstream's wait is passed on."""
    assert facts("errors")["429"]["headers"]["retry-after"] == "7"


@pytest.mark.parametrize("fault", ["cut", "cut-reset", "cut-clean", "malformed", "error-mid"])
def test_a_broken_stream_never_ends_cleanly(facts: Facts, fault: str) -> None:
    """What came is read, then the SDK raises: a cut answer does not look finished."""
    told = facts("broken_streams")[fault]
    assert told["text"], "content before the fault arrives"
    assert told["text"] != GREETING
    assert told["raised"]["class"] == "APIError"
    assert told["raised"]["type"] == "upstream_error"
    assert told["raised"]["code"] == "upstream_interrupted"


def test_a_client_timeout_is_the_clients_own(facts: Facts) -> None:
    """The gateway does not answer in place of a slow upstream before the client gives up."""
    assert facts("timeout") == "APITimeoutError"


def test_the_gateways_own_refusals_have_the_shape(facts: Facts) -> None:
    """Missing and wrong members are named; an unknown path is a 404 with all four members."""
    told = facts("bad_requests")
    assert (told["no model"]["class"], told["no model"]["param"]) == ("BadRequestError", "model")
    assert (told["model is a number"]["class"], told["model is a number"]["param"]) == ("BadRequestError", "model")
    assert told["unknown path"]["class"] == "NotFoundError"
    assert all(set(each["body"]) == {"message", "type", "param", "code"} for each in told.values())
