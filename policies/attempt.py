"""One attempt: the innermost handler, which times it and writes it down."""

from collections.abc import Callable

from proxy.call import Attempt, Call, Record
from proxy.errors import GatewayError, UpstreamError
from proxy.reply import Reply

PutCost = Callable[[Call, Record], None]


class SendOnce:
    """Sends a call to its deployment, or to its route's first. `now` is a monotonic clock in seconds.

    `put_cost` puts the cost of an answer into its record as soon as its usage is known, for caches that keep it.
    """

    def __init__(self, now: Callable[[], float], put_cost: PutCost | None = None) -> None:
        self._now = now
        self._put_cost = put_cost

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
            if self._put_cost is not None and record.usage is not None:
                self._put_cost(call, record)
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
