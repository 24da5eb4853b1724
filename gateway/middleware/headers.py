"""What happens around every request: id, deadline, token, limits, CORS, headers, metrics, a log line, errors."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.auth import Authenticator, require_editor
from gateway.cors import CorsPolicy
from gateway.errors import Problem, from_exception
from gateway.metrics import GatewayMetrics
from rpc import context

log = logging.getLogger("gateway.request")

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

# For everything that does not say otherwise: JSON is no page, and nothing may frame it.
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "strict-origin-when-cross-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Bodies:
    """What bodies an address takes: their largest size in bytes, and their content types; none named: JSON."""

    max_bytes: int
    content_types: tuple[str, ...] = ()

    def check(self, headers: Headers) -> None:
        """Raise a 413 or 415 for a body whose headers say that it is another."""
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self.max_bytes:
            raise _too_large(self.max_bytes)
        has_body = "transfer-encoding" in headers or length not in {"", "0"}
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if has_body and not (kind in self.content_types if self.content_types else _is_json(kind)):
            wanted = ", ".join(self.content_types) or "application/json"
            raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", f"send the body as {wanted}")


class Edge:
    """The outermost middleware.

    Every method but GET, HEAD and OPTIONS needs the token, whatever the route: a new write is closed until it is
    thought about. Reads that need it say so themselves (gateway.auth.require_editor).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticator: Authenticator,
        cors: CorsPolicy,
        metrics: GatewayMetrics,
        bodies: Bodies,
        uploads: Mapping[str, Bodies],
        request_seconds: float,
        client_seconds: float,
    ) -> None:
        """Wrap `app`. `uploads`: the addresses that take other bodies than all the others."""
        self._app = app
        self._authenticator = authenticator
        self._cors = cors
        self._metrics = metrics
        self._bodies = bodies
        self._uploads = uploads
        self._request_seconds = request_seconds
        self._client_seconds = client_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        context.request_id.set(context.accept_id(headers.get("x-request-id")))
        context.set_remaining_seconds(self._request_seconds)
        exchange = _Exchange(send, self._cors.answer_headers(headers.get("origin")))
        began = time.perf_counter()
        with self._metrics.in_flight.track_inprogress():
            try:
                await self._serve(scope, headers, receive, exchange)
            finally:
                self._record(scope, exchange.status, time.perf_counter() - began)

    async def _serve(self, scope: Scope, headers: Headers, receive: Receive, exchange: "_Exchange") -> None:
        bodies = self._uploads.get(scope["path"], self._bodies)
        try:
            answer = self._cors.preflight(scope["method"], headers)
            if answer is None:
                self._admit(scope["method"], headers, bodies)
            if answer is not None:
                await answer(scope, receive, exchange.send)
                return
            await self._app(scope, _limited(receive, bodies.max_bytes, self._client_seconds), exchange.send)
        except Exception as error:
            problem = from_exception(error)
            if exchange.status:
                log.error("answer broken off", extra={"code": problem.code, "detail": problem.detail})
                return  # the server closes the connection: the client sees that the answer is not whole
            await problem.response()(scope, receive, exchange.send)

    def _admit(self, method: str, headers: Headers, bodies: Bodies) -> None:
        """Check token, type and announced size before anything of the body is read."""
        authorization = headers.get("authorization")
        principal = self._authenticator.principal(authorization.encode("latin-1") if authorization else None)
        context.principal.set(principal)
        if method not in _READS:
            require_editor()
            bodies.check(headers)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], _route(scope)
        method = method if method in {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"} else "OTHER"
        self._metrics.requests.labels(method, route, str(status)).inc()
        if not route.endswith("/events"):
            self._metrics.seconds.labels(method, route).observe(seconds)
        level = logging.DEBUG if scope["path"] in _QUIET_PATHS else logging.INFO
        # The path as sent: a decoded one could hold line breaks. Never the query, which holds what people search for.
        raw: bytes = scope.get("raw_path") or b""
        path = raw.decode("ascii", "backslashreplace")[:200]
        log.log(level, "%s %s", method, path, extra={"status": status, "ms": round(seconds * 1e3, 1)})


class _Exchange:
    """Remembers the status of an answer and adds the headers that every answer has."""

    def __init__(self, send: Send, headers: Iterable[tuple[str, str]]) -> None:
        self._send = send
        self._headers = [*headers, ("x-request-id", context.request_id.get())]
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            for name, value in self._headers:
                headers.append(name, value)
        await self._send(message)


def _limited(receive: Receive, max_bytes: int, seconds: float) -> Receive:
    """`receive` that raises when the body grows past the limit, whatever its headers announced, or stands still."""
    size = 0
    whole = False

    async def limited() -> Message:
        nonlocal size, whole
        try:
            async with asyncio.timeout(None if whole else seconds):  # after the body comes only the client's leaving
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the body stopped coming", {"connection": "close"}) from None
        if message["type"] == "http.request":
            whole = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > max_bytes:
                raise _too_large(max_bytes)
        return message

    return limited


def _too_large(max_bytes: int) -> HTTPException:
    # An HTTPException because FastAPI turns any other exception while reading a body into "400". The connection stays
    # open and the server drops what still comes: closed with unread data it would be reset, and the answer lost.
    return HTTPException(413, f"the body must be at most {max_bytes} bytes")


def _is_json(kind: str) -> bool:
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _route(scope: Scope) -> str:
    """The template of the route that matched; never the path itself, which has no end of values."""
    route = scope.get("route")
    return str(getattr(route, "path", "")) or "unmatched"
