"""The path of PUBLIC_BASE_URL: a site that is not at the root of its host."""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.middleware.methods import allowed


class PrefixMiddleware:
    """Serves requests with and without the prefix, and puts it before each Location that begins with a slash.

    Most reverse proxies take the prefix off before they pass a request on; some do not.
    """

    def __init__(self, app: ASGIApp, prefix: str, routes: Sequence[BaseRoute]) -> None:
        """Wrap `app`. `prefix`: such as `/pictures`. `routes`: those of the application."""
        self._app = app
        self._prefix = prefix
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if path == self._prefix:
            location = self._prefix.rpartition("/")[2] + "/"
            await Response(status_code=308, headers={"location": location})(scope, receive, send)
            return
        if path.startswith(self._prefix + "/") and not allowed(self._routes, scope):
            scope["path"] = path.removeprefix(self._prefix)

        async def send_with_prefix(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                location = headers.get("location", "")
                if location.startswith("/") and not location.startswith("//"):
                    headers["location"] = self._prefix + location
            await send(message)

        await self._app(scope, receive, send_with_prefix)
