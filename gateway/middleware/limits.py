"""Limits of size and time for what a client sends: request line and headers, and the body."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import PROBLEM_TYPE, Problem
from rpc import context

MAX_HEAD_BYTES = 16 * 1024

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
        makes. `client_seconds`: the longest wait for the next part of the body.
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
    """`receive` that raises when the body is larger than the limit, whatever its headers say, or stops arriving."""
    size = 0
    complete = False

    async def limited() -> Message:
        nonlocal size, complete
        try:
            # After the body only the disconnect of the client is received, which may take any time.
            async with asyncio.timeout(None if complete else seconds):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the body stopped arriving", {"connection": "close"}) from None
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


class HeadTooLargeError(Exception):
    """Request line and headers are larger than MAX_HEAD_BYTES."""


class GatewayProtocol(HttpToolsProtocol):
    """One HTTP/1.1 connection with a limit on the size and the time of each request head.

    uvicorn's own protocol has neither: 200 clients that send a byte now and then would hold 200 file descriptors.
    """

    def __init__(self, *arguments: Any, head_seconds: float, **keywords: Any) -> None:
        """`head_seconds`: how long request line and headers may take."""
        super().__init__(*arguments, **keywords)
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._is_in_head = False
        self._is_too_large = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of the first request."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the next bytes, and count them while they belong to a head."""
        was_in_head = self._is_in_head
        super().data_received(data)
        if was_in_head and self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._is_too_large = True
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_bytes = 0
        self._is_in_head = True
        self._expect_head()

    def on_headers_complete(self) -> None:
        """The head of the request is complete."""
        self._head_arrived()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            self._is_too_large = True
            raise HeadTooLargeError  # the parser stops, and data_received responds
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Respond to an invalid request with a problem document, and close the connection."""
        problem = Problem(400, "MALFORMED_REQUEST", "the request is not HTTP/1.1")
        if self._is_too_large:
            problem = Problem(431, "HEADERS_TOO_LARGE", f"the headers must be at most {MAX_HEAD_BYTES} bytes")
        body = json.dumps(problem.document()).encode("ascii")
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
            f"content-type: {PROBLEM_TYPE}\r\ncontent-length: {len(body)}\r\n"
            "cache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._head_seconds, self._drop)

    def _head_arrived(self) -> None:
        self._is_in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _drop(self) -> None:
        self._head_timer = None
        self.transport.abort()
