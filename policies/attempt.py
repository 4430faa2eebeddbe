"""One attempt: the innermost handler, which times it and writes it down."""

from collections.abc import Callable

from proxy.call import Attempt, Call
from proxy.errors import GatewayError, UpstreamError
from proxy.reply import Reply


class SendOnce:
    """Sends a call to its deployment, or to its route's first. `now` is a monotonic clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    async def __call__(self, call: Call, /) -> Reply:
        """The provider's committed reply. Raises what the provider raises."""
        deployment = call.deployment or call.route.deployments[0]
        record = call.record
        record.provider, record.upstream_model = deployment.provider_name, deployment.model
        attempt = Attempt(deployment.provider_name, deployment.model, deployment.id, kind="cancelled")
        record.attempts = [*record.attempts, attempt]
        began = self._now()
        try:
            reply = await deployment.provider(call, deployment)
            attempt.kind, attempt.status = "ok", reply.status
        except UpstreamError as error:
            attempt.kind, attempt.status = error.kind, error.upstream_status
            raise
        except GatewayError as error:
            attempt.kind = error.code or error.type
            raise
        finally:
            attempt.seconds = self._now() - began
            record.upstream += attempt.seconds
        return reply
