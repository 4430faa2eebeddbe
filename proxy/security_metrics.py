"""`/system/security-metrics`: what guards have found since the instance started, for operators."""

from collections.abc import Callable, Sequence
from typing import Any

from litestar import get
from litestar.types import ControllerRouterHandler, Guard


def security_handlers(summary: Callable[[], dict[str, Any]], guards: Sequence[Guard]) -> list[ControllerRouterHandler]:
    """The route. `summary` makes its answer; `guards` let operators pass and nobody else."""

    @get("/system/security-metrics", guards=list(guards), sync_to_thread=False)
    def security_metrics() -> dict[str, Any]:
        """Totals by action, findings by guard and by route, and every count."""
        return summary()

    return [security_metrics]
