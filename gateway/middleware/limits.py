"""Limits of size and time for the body of a request. Those of the head are in gateway.serving.protocol."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import Problem
from rpc import context

MIN_BODY_BYTES_PER_SECOND = 4096
"""A body that arrives more slowly is refused, after twice the time that a client has for one part of it."""

_NO_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class BodyPolicy:
    """The largest body of a path, in bytes, and its content types. No content type: JSON."""

    max_bytes: int
    content_types: tuple[str, ...] = ()

    def check(self, headers: Headers) -> None:
        """Raise a 413 or 415 error if the headers announce a body that is not accepted."""
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self.max_bytes:
            raise _too_large(self.max_bytes)
        has_body = "transfer-encoding" in headers or length not in {"", "0"}
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if has_body and not (kind in self.content_types if self.content_types else _is_json(kind)):
            accepted = ", ".join(self.content_types) or "application/json"
            raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", f"the content type must be {accepted}")


class LimitsMiddleware:
    """Sets the deadline of a request and limits its body."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        bodies: BodyPolicy,
        uploads: Mapping[str, BodyPolicy],
        request_seconds: float,
        client_seconds: float,
    ) -> None:
        """Wrap `app`.

        `uploads`: the paths that do not follow `bodies`. `request_seconds`: the deadline of the calls that the request
        makes. `client_seconds`: the longest wait for the next part of the body. A whole body may take twice this
        time, and what MIN_BODY_BYTES_PER_SECOND allows for its size.
        """
        self._app = app
        self._bodies = bodies
        self._uploads = uploads
        self._request_seconds = request_seconds
        self._client_seconds = client_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises Problem and HTTPException."""
        if scope["type"] == "http":
            context.set_remaining_seconds(self._request_seconds)
            policy = self._uploads.get(scope["path"], self._bodies)
            if scope["method"] not in _NO_BODY:
                policy.check(Headers(scope=scope))
            receive = _limited(receive, policy.max_bytes, self._client_seconds)
        await self._app(scope, receive, send)


def _limited(receive: Receive, max_bytes: int, seconds: float) -> Receive:
    """`receive` that raises when the body is larger than the limit, whatever its headers say, or arrives too slowly."""
    size = 0
    waited = 0.0
    complete = False

    async def limited() -> Message:
        nonlocal size, waited, complete
        # After the body only the disconnect of the client is received, which may take any time.
        left = None if complete else min(seconds, 2 * seconds + size / MIN_BODY_BYTES_PER_SECOND - waited)
        began = time.monotonic()
        try:
            async with asyncio.timeout(left):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the body arrived too slowly", {"connection": "close"}) from None
        waited += time.monotonic() - began  # the time that the gateway needs between two parts does not count
        if message["type"] == "http.request":
            complete = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > max_bytes:
                raise _too_large(max_bytes)
        return message

    return limited


def _too_large(max_bytes: int) -> HTTPException:
    # An HTTPException, because FastAPI turns any other exception while it reads a body into status 400. The connection
    # stays open and the server drops the rest: closing it with unread data would reset it, and the response with it.
    return HTTPException(413, f"the body must be at most {max_bytes} bytes")


def _is_json(kind: str) -> bool:
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
