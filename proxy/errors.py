"""Every failure a client can see, raised anywhere and rendered once, at the edge.

GatewayError
├── BadRequest 400 · ParameterOutOfBounds 400 · GuardBlocked 400
├── Unauthenticated 401 · Forbidden 403 · UnknownModel 404 · UnknownPath 404 · UnknownCall 404 · UnknownEntry 404
├── WrongMethod 405 · AlreadyThere 409
├── BodyTimeout 408 · BodyTooLarge 413 · UnsupportedMedia 415
├── RateLimited 429 · BudgetExceeded 429
├── InternalError 500 · Overloaded 503 · GuardUnavailable 503 · NoDeployment 503 · NotCached 504
└── UpstreamError
    ├── UpstreamRefused (their 4xx: the client's fault, body untouched)
    ├── UpstreamDenied 502 · UpstreamMissing 502 (dead here, perhaps alive elsewhere)
    ├── UpstreamLimited 429 · UpstreamUnavailable 502 · UpstreamTimeout 504 (worth another try)
    └── UpstreamInterrupted (after the commit point: an event in the stream)
"""

import math
from typing import ClassVar, Literal

import msgspec

Fate = Literal["final", "next", "again"]
_SOON = 5.0
"""Seconds after which something that is away may be back."""
_BELIEVED = 60.0
"""The longest `retry-after` that OpenAI's SDK for JavaScript waits for; over it, it has a wait of its own, of a second."""


class GatewayError(Exception):
    """A failure with its status and the four members of OpenAI's error object.

    `headers` are sent with it. `message` is read by the client: it never holds a secret, a host or a guard's rule.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code if code is not None else self.default_code
        self.param = param
        self.headers = headers or {}

    @property
    def http_status(self) -> int:
        """The status the client sees."""
        return self.status

    def body(self) -> bytes:
        """The JSON body: `{"error": {message, type, param, code}}`, all four members, code a string or null."""
        return msgspec.json.encode(
            {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}
        )

    def event_body(self, sequence: int) -> bytes:
        """The same as the data of a Responses stream's `error` event, which is numbered."""
        return msgspec.json.encode(
            {
                "type": "error",
                "code": self.code or self.type,
                "message": self.message,
                "param": self.param,
                "sequence_number": sequence,
            }
        )


class BadRequest(GatewayError):
    """What the client sent cannot be read, or names something that is not there."""

    status = 400
    type = "invalid_request_error"


class ParameterOutOfBounds(BadRequest):
    """A parameter is outside the bounds that its route or caller has; the message names them."""

    default_code = "parameter_out_of_bounds"


class GuardBlocked(BadRequest):
    """A guard refused a text. Neither the text nor the rule is ever echoed."""

    default_code = "prompt_injection"


class GuardUnavailable(GatewayError):
    """A guard that must be heard gives no verdict, so that the call may not go on."""

    status = 503
    default_code = "guard_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "The gateway cannot check this request at the moment. Try again.", headers=retry_headers(_SOON)
        )


class Unauthenticated(GatewayError):
    """No key (code null), a bad one (`invalid_api_key`) or an expired token (`token_expired`)."""

    status = 401
    type = "invalid_request_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message, code=code, headers={"www-authenticate": "Bearer"})


class Forbidden(GatewayError):
    """The caller is known and may not do this."""

    status = 403
    type = "invalid_request_error"
    default_code = "forbidden"


class UnknownModel(GatewayError):
    """No route of this name, or none that this caller may use: the two look the same."""

    status = 404
    type = "invalid_request_error"
    default_code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model '{model[:200]}' does not exist or you do not have access to it.",
            param="model",
        )


class UnknownPath(GatewayError):
    """Nothing is served at this path."""

    status = 404
    type = "invalid_request_error"
    default_code = "unknown_url"


class UnknownCall(GatewayError):
    """No call of this id is remembered."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class UnknownEntry(GatewayError):
    """No virtual key, owner or user of this name."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class AlreadyThere(GatewayError):
    """Something of this name is there already."""

    status = 409
    type = "invalid_request_error"
    default_code = "already_exists"


class WrongMethod(GatewayError):
    """The path is served, but not with this method; `allow` names those that are."""

    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"


class BodyTimeout(GatewayError):
    """The client stopped sending its body."""

    status = 408
    type = "invalid_request_error"
    default_code = "request_timeout"


class BodyTooLarge(GatewayError):
    """The body, as sent or decompressed, is over the limit."""

    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"


class UnsupportedMedia(GatewayError):
    """A content type or a content encoding that is not read here."""

    status = 415
    type = "invalid_request_error"
    default_code = "unsupported_content_encoding"


class RateLimited(GatewayError):
    """A limit of requests or tokens is reached; `unit` says which and becomes the error's type."""

    status = 429
    default_code = "rate_limit_exceeded"

    def __init__(self, message: str, *, unit: Literal["requests", "tokens"], headers: dict[str, str]) -> None:
        super().__init__(message, headers=headers)
        self.unit = unit

    def body(self) -> bytes:
        """The JSON body, typed by the unit that ran out."""
        return msgspec.json.encode(
            {"error": {"message": self.message, "type": self.unit, "param": None, "code": self.code}}
        )


class BudgetExceeded(GatewayError):
    """The caller's budget for this period is spent."""

    status = 429
    type = "insufficient_quota"
    default_code = "insufficient_quota"

    def __init__(self, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message, headers={"x-should-retry": "false", **(headers or {})})


class InternalError(GatewayError):
    """Our own fault. The message is fixed: details are in the log under the call's id."""

    default_code = "internal_error"

    def __init__(self) -> None:
        super().__init__("The gateway failed to handle this request. The request id is in the x-request-id header.")


class Overloaded(GatewayError):
    """More calls in flight, or bytes held, than this instance takes; or it is going down."""

    status = 503
    default_code = "overloaded"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message, headers=retry_headers(retry_after))


class NoDeployment(GatewayError):
    """Every deployment of the route is resting; `retry_after` is the soonest end, in seconds."""

    status = 503
    default_code = "no_healthy_deployment"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, headers={**retry_headers(retry_after), "x-should-retry": "false"})


class NotCached(GatewayError):
    """`only-if-cached`, and it is not."""

    status = 504
    type = "invalid_request_error"
    default_code = "not_cached"


class UpstreamError(GatewayError):
    """A provider failed before the commit point.

    `fate` says what failover may do: `final` nothing, `next` another deployment, `again` the same one too.
    `kind` is a short label for the record, `upstream_status` what they answered (None: nothing),
    `retry_after` how long they asked us to wait, in seconds.
    """

    status = 502
    type = "upstream_error"
    fate: ClassVar[Fate] = "again"

    def __init__(  # noqa: PLR0913 - facts of one failure, all by name
        self,
        message: str,
        *,
        kind: str,
        code: str | None = None,
        param: str | None = None,
        upstream_status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.kind = kind
        self.upstream_status = upstream_status
        self.retry_after = retry_after


class UpstreamRefused(UpstreamError):
    """The provider found fault with the request itself: status and body go to the client untouched."""

    fate = "final"

    def __init__(self, *, upstream_status: int, raw: bytes, code: str | None) -> None:
        super().__init__(
            "The provider refused the request.", kind="refused", code=code, upstream_status=upstream_status
        )
        self.raw = raw

    @property
    def http_status(self) -> int:
        """Theirs."""
        return self.upstream_status or 400

    def body(self) -> bytes:
        """Theirs, byte for byte."""
        return self.raw


class UpstreamDenied(UpstreamError):
    """Their 401, 402 or 403: our credential is bad there, which is never the client's fault."""

    default_code = "upstream_auth_failed"
    fate = "next"


class UpstreamMissing(UpstreamError):
    """Their 404: the deployment names a model or a path that is not there."""

    default_code = "upstream_model_missing"
    fate = "next"


class UpstreamLimited(UpstreamError):
    """Their 429. `exhausted` marks a spent quota, which no waiting cures."""

    status = 429
    type = "requests"
    default_code = "upstream_rate_limited"

    def __init__(self, message: str, *, retry_after: float | None, exhausted: bool) -> None:
        kind = "quota" if exhausted else "limited"
        super().__init__(message, kind=kind, upstream_status=429, retry_after=retry_after)
        self.exhausted = exhausted
        self.headers.update({"x-should-retry": "false"} if exhausted else retry_headers(retry_after or 1.0))


class UpstreamUnavailable(UpstreamError):
    """No usable answer: no connection, a 5xx, or a 200 that is no answer."""

    default_code = "upstream_unavailable"


class UpstreamTimeout(UpstreamError):
    """No connection, or no answer, in time."""

    status = 504
    default_code = "upstream_timeout"


class UpstreamInterrupted(UpstreamError):
    """The stream broke after the commit point. `sequence` numbers the event on a Responses stream."""

    default_code = "upstream_interrupted"
    fate = "final"
    sequence: int = 0


def retry_headers(seconds: float) -> dict[str, str]:
    """`retry-after` (whole seconds, at least 1) and `retry-after-ms` that agree with each other.

    Over a minute also `x-should-retry: false`: the SDKs do not believe such a wait, and would come back at once.
    """
    milliseconds = max(1, math.ceil(seconds * 1000))
    headers = {"retry-after": str(max(1, math.ceil(seconds))), "retry-after-ms": str(milliseconds)}
    return headers if seconds <= _BELIEVED else {**headers, "x-should-retry": "false"}
