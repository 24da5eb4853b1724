"""A server for tests to kill: prints its port, adds up the sizes of requests, and echoes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from rpc.server import Service, running
from rpc.settings import ServerSettings


async def collect(requests: AsyncIterator[bytes], _context: Any) -> bytes:
    size = 0
    async for request in requests:
        size += len(request)
    return str(size).encode()


async def echo(request: bytes, _context: Any) -> bytes:
    return request


async def stream(request: bytes, _context: Any) -> AsyncIterator[bytes]:
    for _ in range(20):
        yield request


HANDLERS = {
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Unary": grpc.unary_unary_rpc_method_handler(echo),
    "Stream": grpc.unary_stream_rpc_method_handler(stream),
}


async def main() -> None:
    service = Service("test.Killed", lambda server: server.add_registered_method_handlers("test.Killed", HANDLERS))
    async with running([service], ServerSettings(listen="127.0.0.1:0")) as server:
        print(server.port, flush=True)
        await server.server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
