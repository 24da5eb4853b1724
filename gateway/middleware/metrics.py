"""Prometheus metrics of the gateway, and one log line for each request."""

import logging
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rpc import context

log = logging.getLogger("gateway.request")

# Seconds: from a cached read to a request that waits for an image.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


class GatewayMetrics:
    """The metrics of one gateway. Each has its own registry, so that a process can hold several gateways."""

    def __init__(self) -> None:
        """Start at zero."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("method", "route")
        self.requests = Counter("gateway_requests", "Finished requests.", (*labels, "status"), registry=self.registry)
        self.seconds = Histogram(
            "gateway_request_seconds",
            "Duration of a request. Event streams are not counted.",
            labels,
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge("gateway_requests_in_flight", "Requests in progress.", registry=self.registry)
        self.event_streams = Gauge("gateway_event_streams", "Open event streams.", registry=self.registry)
        self.connections = Gauge("gateway_connections", "Open connections of clients.", registry=self.registry)
        self.connections_cut = Counter(
            "gateway_connections_cut",
            "Connections that were refused, gave way to a new one, or had a reader that was too slow.",
            ("reason",),
            registry=self.registry,
        )
        self.resumed = Counter(
            "gateway_event_streams_resumed",
            "Calls of WatchTask that were repeated after the posts service ended one.",
            registry=self.registry,
        )

        self._known: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def of(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        """The counter and the histogram of requests of one kind."""
        key = (method, route, status)
        found = self._known.get(key)
        if found is None:
            found = (self.requests.labels(method, route, str(status)), self.seconds.labels(method, route))
            self._known[key] = found
        return found

    def exposition(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class MetricsMiddleware:
    """Gives each request its id, counts it and logs it. Only PiecesMiddleware is further out."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        """Wrap `app`."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context.request_id.set(context.accept_id(_given_id(scope)))
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_and_note)
        finally:
            self._metrics.in_flight.dec()
            self._record(scope, status, time.perf_counter() - began)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # The template of the route, never the path: paths would give an unlimited number of time series.
        # A mounted application has no route, but the path where it is mounted.
        route = str(getattr(scope.get("route"), "path", "") or scope.get("root_path") or "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        counter, histogram = self._metrics.of(method, route, status)
        counter.inc()
        if not route.endswith("/events"):
            histogram.observe(seconds)
        level = logging.DEBUG if scope["path"] in _QUIET_PATHS else logging.INFO
        # The path as it was sent, because a decoded one could hold line breaks. Never the query: it holds search words.
        raw: bytes = scope.get("raw_path") or b""
        path = raw.decode("ascii", "backslashreplace")[:200]
        if log.isEnabledFor(level):
            log.handle(_record(level, f"{method} {path}", status, seconds))


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            found: str = value.decode("latin-1")
            return found
    return None


def _record(level: int, message: str, status: int, seconds: float) -> logging.LogRecord:
    """The record of a request. Logger.log would look for the line of code that called it, for every request."""
    record = logging.LogRecord(log.name, level, "", 0, message, (), None)
    record.status = status
    record.ms = round(seconds * 1e3, 1)
    return record
