"""Headers that every response has."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rpc import context

# Defaults for responses that set no value of their own; pages set their own content policy.
_DEFAULTS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


class HeadersMiddleware:
    """Adds the request id and safe defaults to every response."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                given = {name for name, _ in headers}
                headers += [pair for pair in _DEFAULTS if pair[0] not in given]
                headers.append((b"x-request-id", context.request_id.get().encode("ascii")))
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
