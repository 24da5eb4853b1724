"""Client channels: load balancing, retries, reconnection, deadlines and the request context."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from rpc import context
from rpc.client_stream import StreamUnaryCall

DEFAULT_TIMEOUT_SECONDS = 10.0

# Subtracted from the deadline of the call being served, so that our error reaches the caller before its deadline.
_MARGIN_SECONDS = 0.005

_OPTIONS: list[tuple[str, Any]] = [
    # gRPC would send even calls to 127.0.0.1 through the proxy of http_proxy.
    ("grpc.enable_http_proxy", 0),
    # A connection of its own: channels with the same options would share one, and its limit of streams.
    ("grpc.use_local_subchannel_pool", 1),
    # The default waits a second before the first retry, which is longer than a step of a rolling restart.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name, this limits one attempt to connect. With less, a busy machine never gets a connection.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Calls last minutes: a dead peer is noticed within 40 s. rpc.server permits these pings.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # With the default of 256 KiB, requests that are larger are silently not retried.
    ("grpc.per_rpc_retry_buffer_size", 64 * 1024 * 1024),
    # Errors are sent in headers. By default more than 8 KiB may be refused: less than an error with many violations.
    ("grpc.max_metadata_size", 64 * 1024),
]

_RETRIED_LEVELS = (descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS, descriptor_pb2.MethodOptions.IDEMPOTENT)


def service_config(services: Sequence[ServiceDescriptor], *, retries: bool = True, health_check: bool = True) -> str:
    """The gRPC service config for a channel that calls `services`.

    Calls are balanced round robin over the backends whose health for the first service is SERVING. UNAVAILABLE is
    retried, with at most five attempts (the maximum of gRPC), for methods whose contract says `idempotency_level =
    NO_SIDE_EFFECTS` or `IDEMPOTENT`.
    """
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        # Retries must not multiply the load of an overloaded server: once the failed calls exceed a tenth of the
        # successful ones by fifty, nothing is retried until calls succeed again (gRFC A6).
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }
    if services and health_check:
        config["healthCheckConfig"] = {"serviceName": services[0].full_name}
    names = [{"service": s.full_name, "method": m.name} for s in services for m in s.methods if _is_idempotent(m)]
    if names and retries:
        policy = {
            "maxAttempts": 5,
            "initialBackoff": "0.1s",
            "maxBackoff": "1s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["methodConfig"] = [{"name": names, "retryPolicy": policy}]
    return json.dumps(config)


def _is_idempotent(method: MethodDescriptor) -> bool:
    return method.GetOptions().idempotency_level in _RETRIED_LEVELS


def open_channel(
    target: str,
    *,
    services: Sequence[ServiceDescriptor] = (),
    retries: bool = True,
    health_check: bool = True,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    max_message_bytes: int = 4 * 1024 * 1024,
    window_bytes: int | None = None,
) -> "ContextChannel":
    """Open a channel to `target`: "host:port", "dns:///name:port" or "ipv4:1.2.3.4:1,1.2.3.5:1".

    `services` are the services to call: `tasks_pb2.DESCRIPTOR.services_by_name["TaskService"]`. Their contracts decide
    which methods are retried, and the health of the first one decides which backends are called; `retries` and
    `health_check` turn these off.

    `window_bytes` is how much of each stream of responses the server may send ahead of its reader, besides one message.
    None lets gRPC choose, which is up to several MiB.

    A call ends at the earliest of: its own `timeout`, the deadline of the call being served, `timeout_seconds`. A call
    with `timeout` given may last longer than `timeout_seconds`.
    """
    options = [
        *_OPTIONS,
        ("grpc.service_config", service_config(services, retries=retries, health_check=health_check)),
        ("grpc.max_receive_message_length", max_message_bytes),
    ]
    if window_bytes is not None:
        options += [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", window_bytes)]
    return ContextChannel(grpc.aio.insecure_channel(target, options=options), timeout_seconds)


class ContextChannel(grpc.aio.Channel):
    """A channel that gives every call a deadline and the context of the call being served.

    It wraps the multicallables. Client interceptors would replace the stream of responses by an object with different
    cancellation; here it is that of gRPC.
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
        """The connectivity state."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the state differs from `last_observed_state`."""
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

        def bound(request_iterator: AsyncIterator[Any] | None = None, **keywords: Any) -> StreamUnaryCall:
            return StreamUnaryCall(call(None, **keywords), request_iterator)

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


def _timeout(seconds: float) -> float:
    left = context.remaining_seconds()
    return seconds if left is None else min(seconds, max(0.001, left - _MARGIN_SECONDS))


def _metadata(given: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    metadata = list(given)
    if request_id := context.request_id.get():
        metadata.append((context.REQUEST_ID_KEY, request_id))
    metadata.append((context.PRINCIPAL_KEY, context.principal.get()))
    return metadata
