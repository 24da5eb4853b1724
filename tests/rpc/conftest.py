"""A two-hop system of real servers: a front that calls a leaf, both with everything rpc gives them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from rpc.channel import ContextChannel, open_channel
from rpc.server import RunningServer, Service, running
from rpc.settings import ServerSettings

NAME = "test.Echo"


@dataclass
class Echo:
    """A service of raw bytes whose behaviour a test sets."""

    unary: Callable[[bytes, Any], Any] | None = None
    stream: Callable[[bytes, Any], Any] | None = None
    collect: Callable[[Any, Any], Any] | None = None
    name: str = NAME
    calls: list[bytes] = field(default_factory=list)

    async def _unary(self, request: bytes, context: Any) -> Any:
        self.calls.append(request)
        assert self.unary is not None
        return await self.unary(request, context)

    async def _stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        assert self.stream is not None
        async with contextlib.aclosing(self.stream(request, context)) as responses:
            async for response in responses:
                yield response

    async def _collect(self, requests: Any, context: Any) -> Any:
        assert self.collect is not None
        return await self.collect(requests, context)

    def service(self) -> Service:
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "Create": grpc.unary_unary_rpc_method_handler(self._unary),
            "Add": grpc.unary_unary_rpc_method_handler(self._unary),
            "Stream": grpc.unary_stream_rpc_method_handler(self._stream),
            "Collect": grpc.stream_unary_rpc_method_handler(self._collect),
        }
        return Service(self.name, lambda server: server.add_registered_method_handlers(self.name, handlers))


@dataclass
class Hop:
    """A running echo server and a channel to it."""

    echo: Echo
    server: RunningServer
    channel: ContextChannel

    async def unary(self, request: bytes = b"", **keywords: Any) -> bytes:
        return await self.channel.unary_unary(f"/{self.echo.name}/Unary")(request, **keywords)

    def stream(self, request: bytes = b"", **keywords: Any) -> Any:
        return self.channel.unary_stream(f"/{self.echo.name}/Stream")(request, **keywords)

    async def collect(self, requests: Any, **keywords: Any) -> bytes:
        return await self.channel.stream_unary(f"/{self.echo.name}/Collect")(requests, **keywords)


@contextlib.asynccontextmanager
async def hop(echo: Echo, settings: ServerSettings | None = None, **channel: Any) -> AsyncIterator[Hop]:
    async with running([echo.service()], settings or ServerSettings(listen="127.0.0.1:0")) as server:
        async with open_channel(server.address, **channel) as opened:
            yield Hop(echo, server, opened)


@pytest.fixture
async def echo() -> AsyncIterator[Hop]:
    async with hop(Echo()) as running_hop:
        yield running_hop


async def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)
