"""From the model that a client names to the route that serves it."""

from collections.abc import Iterable

import msgspec

from proxy.deployments import Route
from proxy.errors import UnknownModel

_REMEMBERED = 1024
_LONGEST = 500
"""Characters of a model that a pattern matches: what is longer is remembered and written down nowhere."""


class Router:
    """The routes of one configuration. An exact name comes before a pattern, a longer pattern before a shorter."""

    def __init__(self, routes: Iterable[Route]) -> None:
        everything = list(routes)
        self.exact = {route.name: route for route in everything if not route.name.endswith("*")}
        self.patterns = sorted(
            (route for route in everything if route.name.endswith("*")), key=lambda route: -len(route.name)
        )
        self._matched: dict[str, Route] = {}

    def find(self, model: str) -> Route:
        """The route of this name. Raises UnknownModel."""
        route = self.exact.get(model) or self._matched.get(model)
        return route if route is not None else self._match(model)

    def _match(self, model: str) -> Route:
        for route in self.patterns if len(model) <= _LONGEST else ():
            prefix = route.name[:-1]
            if model.startswith(prefix) and len(model) > len(prefix):
                matched = _concrete(route, model[len(prefix) :])
                if len(self._matched) >= _REMEMBERED:  # names come from clients: remember only so many
                    self._matched.clear()
                self._matched[model] = matched
                return matched
        raise UnknownModel(model)


def _concrete(route: Route, rest: str) -> Route:
    deployments = tuple(
        msgspec.structs.replace(each, model=each.model.replace("*", rest), id=each.id.replace("*", rest))
        for each in route.deployments
    )
    return msgspec.structs.replace(route, deployments=deployments)
