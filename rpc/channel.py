"""Calling another service: balancing, retries, reconnection, deadlines and the request context, in one place."""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import grpc

from rpc import context
from rpc.client_stream import StreamUnaryCall

DEFAULT_TIMEOUT_SECONDS = 10.0

# Time kept back from the caller's deadline, so that our error reaches it before its own.
_MARGIN_SECONDS = 0.005

_OPTIONS: list[tuple[str, Any]] = [
    # Reconnect fast: the default waits a second before the first retry, longer than a rolling restart's step.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name this bounds one attempt to connect; shorter, and a busy machine never gets a connection.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Calls last minutes; a dead peer is noticed within 40 s. rpc.server permits these pings.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The default of 256 KiB silently turns retries off for image uploads.
    ("grpc.per_rpc_retry_buffer_size", 64 * 1024 * 1024),
]

RetryableMethods = Iterable[tuple[str, str]]


def service_config(retryable: RetryableMethods, health_service: str) -> str:
    """The gRPC service config: round robin over healthy backends; retries of UNAVAILABLE for the methods given.

    Only methods that may run twice without harm belong into `retryable` (full service name, method): the first try may
    have had its effect. gRPC allows five attempts at most.
    """
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        # A server that is overloaded must not get five times the calls for it: once fifty calls more failed than a
        # tenth of those that succeeded, nothing is retried until calls succeed again (gRFC A6).
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }
    if health_service:
        config["healthCheckConfig"] = {"serviceName": health_service}
    names = [{"service": service, "method": method} for service, method in retryable]
    if names:
        config["methodConfig"] = [
            {
                "name": names,
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    return json.dumps(config)


def open_channel(
    target: str,
    *,
    retryable: RetryableMethods = (),
    health_service: str = "",
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    max_message_bytes: int = 4 * 1024 * 1024,
) -> "ContextChannel":
    """Open a channel to `target`: "host:port", "dns:///name:port" or "ipv4:1.2.3.4:1,1.2.3.5:1".

    A call ends at the earliest of: its own `timeout`, the deadline of the call being served, `timeout_seconds`.
    A call with `timeout` given may last longer than `timeout_seconds`.
    """
    options = [
        *_OPTIONS,
        ("grpc.service_config", service_config(retryable, health_service)),
        ("grpc.max_receive_message_length", max_message_bytes),
    ]
    return ContextChannel(grpc.aio.insecure_channel(target, options=options), timeout_seconds)


class ContextChannel(grpc.aio.Channel):
    """A channel that gives every call a deadline and the context of the call being served.

    It wraps the multicallables instead of using client interceptors: an intercepted stream is another object with other
    cancellation, a wrapped one is gRPC's own.
    """

    def __init__(self, channel: grpc.aio.Channel, timeout_seconds: float) -> None:
        """Wrap `channel`; `timeout_seconds` is the default deadline."""
        self._channel = channel
        self._timeout_seconds = timeout_seconds

    async def __aenter__(self) -> "ContextChannel":
        """Enter the wrapped channel."""
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *arguments: Any) -> None:
        """Close the wrapped channel."""
        await self._channel.__aexit__(*arguments)

    async def close(self, grace: float | None = None) -> None:
        """Close the channel; calls in progress have `grace` seconds."""
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The state of the connection."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the state is another one."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the channel is connected."""
        await self._channel.channel_ready()

    def unary_unary(self, *arguments: Any, **keywords: Any) -> Any:
        """A method with one request and one response."""
        return self._bind(self._channel.unary_unary(*arguments, **keywords))

    def unary_stream(self, *arguments: Any, **keywords: Any) -> Any:
        """A method with one request and many responses."""
        return self._bind(self._channel.unary_stream(*arguments, **keywords))

    def stream_unary(self, *arguments: Any, **keywords: Any) -> Any:
        """A method with many requests and one response."""
        call = self._bind(self._channel.stream_unary(*arguments, **keywords))

        def bound(requests: AsyncIterator[Any] | None = None, **keywords: Any) -> StreamUnaryCall:
            return StreamUnaryCall(call(None, **keywords), requests)

        return bound

    def stream_stream(self, *arguments: Any, **keywords: Any) -> Any:
        """A method with many requests and many responses."""
        return self._bind(self._channel.stream_stream(*arguments, **keywords))

    def _bind(self, call: Any) -> Any:
        default = self._timeout_seconds

        def bound(
            *arguments: Any,
            timeout: float | None = None,
            metadata: Sequence[tuple[str, str]] | None = None,
            **keywords: Any,
        ) -> Any:
            return call(
                *arguments,
                timeout=_timeout(default if timeout is None else timeout),
                metadata=_metadata(metadata or ()),
                **keywords,
            )

        return bound


def _timeout(wanted: float) -> float:
    left = context.remaining_seconds()
    return wanted if left is None else min(wanted, max(0.001, left - _MARGIN_SECONDS))


def _metadata(given: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    metadata = list(given)
    if request_id := context.request_id.get():
        metadata.append((context.REQUEST_ID_KEY, request_id))
    metadata.append((context.PRINCIPAL_KEY, context.principal.get()))
    return metadata
