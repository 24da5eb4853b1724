"""Methods: HEAD wherever GET is, a complete `Allow`, and addresses with a slash too many."""

from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""The methods that a route may have. Others, such as TRACE, are refused by status 405 whoever asks."""

# What a route learns from the scope, for the middleware outside.
_ROUTED = ("route", "endpoint", "path_params")


def allowed(routes: Sequence[BaseRoute], scope: Scope, path: str | None = None) -> list[str]:
    """The methods of all routes at the path of `scope`, or at `path`. Empty: there is no such address."""
    probe: Scope = {"type": "http", "root_path": "", "path": path or scope["path"], "headers": []}
    found = {method for method in METHODS for route in routes if _matches(route, probe, method)}
    if "GET" in found:
        found.add("HEAD")
    return [method for method in METHODS if method in found]


def _matches(route: BaseRoute, probe: Scope, method: str) -> bool:
    if isinstance(route, Mount) and method not in {"GET", "HEAD"}:
        return False  # static files
    return route.matches({**probe, "method": method})[0] is Match.FULL


def method_not_allowed(methods: Sequence[str]) -> HTTPException:
    """The error for a method that an address has not."""
    return HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": ", ".join(methods)})


def without_slash(routes: Sequence[BaseRoute], scope: Scope) -> Response | None:
    """A redirect for an address that exists without the slash at its end; None for any other address.

    The location is relative: it is right under any host name, and below any path that a proxy puts before ours.
    """
    path: str = scope["path"]
    stripped = path.rstrip("/")
    if not stripped or stripped == path or not allowed(routes, scope, stripped) or allowed(routes, scope):
        return None
    climb = "../" * (len(path) - len(stripped))
    query: bytes = scope.get("query_string") or b""
    location = climb + quote(stripped.rpartition("/")[2]) + ("?" + query.decode("latin-1") if query else "")
    return Response(status_code=HTTPStatus.TEMPORARY_REDIRECT, headers={"location": location})


class MethodsMiddleware:
    """Serves HEAD by the GET route of an address, and refuses methods that no route has.

    The server leaves the body of a response to HEAD out, and keeps its length.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        """Wrap `app`. `routes`: those of the application, which may be added later."""
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises HTTPException."""
        if scope["type"] != "http" or scope["method"] in {"GET", "POST", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        if scope["method"] not in METHODS:
            methods = allowed(self._routes, scope)
            raise method_not_allowed(methods) if methods else HTTPException(HTTPStatus.NOT_FOUND)
        if scope["method"] != "HEAD" or any(_matches(route, scope, "HEAD") for route in self._routes):
            await self._app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}
        try:
            await self._app(as_get, receive, send)
        finally:
            scope.update({name: as_get[name] for name in _ROUTED if name in as_get})
