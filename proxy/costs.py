"""What a call cost, put into its record before that is sealed."""

from proxy.call import Call, Record, Usage
from proxy.money import cost_of
from proxy.prices import PriceOf


class Costs:
    """Prices the usage of every record by the deployment that answered.

    What was refused or failed costs nothing, and neither do attempts that another one followed, though their provider
    may see that otherwise. A stream costs what was streamed of it. A call whose client left while a provider worked on
    its answer costs what it asked (estimated): what more the provider made of it nobody tells us. What came from a
    cache, or from a flight that another call had started, costs nothing and has `saved` what it would have cost.
    """

    def __init__(self, price_of: PriceOf) -> None:
        self._price_of = price_of

    def seal(self, _call: Call, record: Record) -> None:
        """Set cost, and usage where there is none yet. Said again for an amended record, it starts over."""
        served = record.cache.startswith("hit") or record.flight == "followed"
        if record.usage is None and not served and record.attempts:
            record.usage = _of_a_lost_call(record)
        if record.usage is None:
            record.cost = 0 if served or record.attempts else None
            return
        if served and record.saved is not None:
            record.cost = 0
            return
        price = self._price_of(record.provider, record.upstream_model, record.route)
        cost = None if price is None else cost_of(price, record.usage)
        if served:
            record.cost, record.saved = 0, cost
        else:
            record.cost = cost


def _of_a_lost_call(record: Record) -> Usage | None:
    if record.outcome == "client_disconnect" and record.attempts[-1].kind == "cancelled":
        return Usage(record.prompt, estimated=True)
    return None
