"""Routes without FastAPI, for bytes, events and pages."""

from starlette.routing import Match, Route
from starlette.types import Scope


class PlainRoute(Route):
    """Starlette's route, which also tells the middleware which one matched, as FastAPI's does."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether it matches, and what it adds to the scope."""
        match, child = super().matches(scope)
        return match, {**child, "route": self} if match is not Match.NONE else child
