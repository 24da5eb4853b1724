"""Large responses are written in pieces, and all that wait for slow readers have a bound together."""

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.serving.protocol import ABORT, PIECE_BYTES

MAX_PENDING_BYTES = 64 * 1024 * 1024
"""The most that responses larger than a piece may hold together while they are being sent."""


class PiecesMiddleware:
    """Writes each body in pieces of PIECE_BYTES, each after the client has taken the one before.

    A body stays in memory until it is sent. When those of all readers exceed the bound, the reader that has taken
    longest is cut off: one that is not slow has left after milliseconds. This is the outermost middleware.
    """

    def __init__(self, app: ASGIApp, cut: Callable[[], None] = lambda: None, most: int = MAX_PENDING_BYTES) -> None:
        """Wrap `app`. `cut` is called for each reader that is cut off."""
        self._app = app
        self._cut = cut
        self._most = most
        self._bytes = 0
        self._pending: dict[object, tuple[int, Callable[[], None]]] = {}  # in the order of their beginning

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_pieces(message: Message) -> None:
            if message["type"] == "http.response.body" and len(message.get("body", b"")) > PIECE_BYTES:
                await self._send(message, scope, send)
            else:
                await send(message)

        await self._app(scope, receive, send_pieces)

    async def _send(self, message: Message, scope: Scope, send: Send) -> None:
        body, more = memoryview(message["body"]), message.get("more_body", False)
        this = object()
        self._pending[this] = (len(body), scope.get("extensions", {}).get(ABORT, {}).get("abort", lambda: None))
        self._bytes += len(body)
        self._make_room(this)
        try:
            for start in range(0, len(body), PIECE_BYTES):
                if this not in self._pending:
                    return  # cut off
                end = start + PIECE_BYTES
                await send(
                    {
                        "type": "http.response.body",
                        "body": body[start:end],
                        "more_body": more or end < len(body),
                    }
                )
        finally:
            self._forget(this)

    def _make_room(self, newest: object) -> None:
        while self._bytes > self._most:
            oldest = next(iter(self._pending))
            if oldest is newest:
                return
            abort = self._pending[oldest][1]
            self._forget(oldest)
            self._cut()
            abort()

    def _forget(self, this: object) -> None:
        size, _ = self._pending.pop(this, (0, None))
        self._bytes -= size
