"""`/admin/usage` and `/admin/budgets`: what was spent, for administrators only."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.params import FromQuery, QueryParameter
from litestar.types import ControllerRouterHandler, Guard

from proxy.errors import BadRequest
from proxy.sql import Store
from proxy.usage_report import COLUMNS, FIGURES, answer, as_csv, balances, question

_ASKED = ("by", "from", "to", *(name for name in COLUMNS if name != "day"), "format")
_encode = msgspec.json.Encoder(decimal_format="number").encode


def money_handlers(store: Store, guard: Guard, now: Callable[[], float]) -> list[ControllerRouterHandler]:
    """Both behind `guard`, which is `admins_only`. `now` is Unix time."""

    @get("/admin/usage", guards=[guard])
    async def usage(  # noqa: PLR0913 - one for each member of the query
        request: Request[Any, Any, Any],
        by: FromQuery[str] = "day",
        first: Annotated[str | None, QueryParameter(name="from")] = None,
        last: Annotated[str | None, QueryParameter(name="to")] = None,
        key: FromQuery[str | None] = None,
        owner: FromQuery[str | None] = None,
        route: FromQuery[str | None] = None,
        provider: FromQuery[str | None] = None,
        model: FromQuery[str | None] = None,
        form: Annotated[str, QueryParameter(name="format")] = "json",
    ) -> Response[bytes]:
        """Calls, tokens and cost by day, key, owner, route, provider or model (`by`, joined by commas)."""
        _refuse_unknown(request)
        if form not in ("json", "csv"):
            raise BadRequest("Invalid 'format': expected json or csv.", param="format", code="invalid_value")
        only = {"key": key, "owner": owner, "route": route, "provider": provider, "model": model}
        asked = question(by, first, last, only, datetime.fromtimestamp(now(), UTC).date())
        rows = await store.run(partial(answer, asked=asked))
        if form == "csv":
            return Response(as_csv(rows, (*asked.by, *FIGURES)).encode(), media_type="text/csv")
        body = _encode({"from": asked.first, "to": asked.last, "by": asked.by, "usage": rows})
        return Response(body, media_type="application/json")

    @get("/admin/budgets", guards=[guard])
    async def budgets() -> Response[bytes]:
        """What every account with a budget has spent and reserved in its current period."""
        rows = await store.run(partial(balances, now=now()))
        return Response(_encode({"budgets": rows}), media_type="application/json")

    return [usage, budgets]


def _refuse_unknown(request: Request[Any, Any, Any]) -> None:
    """Raises BadRequest: whoever mistypes a name would take the sums of everything for those of their choice."""
    for name in request.query_params:
        if name not in _ASKED:
            shown = name[:100]
            raise BadRequest(
                f"Unknown parameter: '{shown}'. Known here: {', '.join(_ASKED)}.", param=shown, code="unknown_parameter"
            )
