"""A reverse proxy that serves a gateway under another port and below a path, as Caddy or nginx do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx2
import uvicorn
from starlette.types import Receive, Scope, Send

from local.ports import free_port

_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"host"}


class ReverseProxy:
    """Passes requests below `path` on without it; everything else is 404. `target`: the URL of the gateway."""

    def __init__(self, path: str, target: str) -> None:
        self._path = path
        self._target = target
        self.client = httpx2.AsyncClient(timeout=None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["raw_path"].decode()
        if not path.startswith(f"{self._path}/"):
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"not below the path"})
            return
        query = f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = [pair for pair in scope["headers"] if pair[0] not in _HOP]
        url = f"{self._target}{path.removeprefix(self._path)}{query}"
        async with self.client.stream(scope["method"], url, headers=headers, content=body) as response:
            kept = [pair for pair in response.headers.raw if pair[0].lower() not in _HOP]
            await send({"type": "http.response.start", "status": response.status_code, "headers": kept})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def reverse_proxy(path: str, target: str, port: int | None = None) -> AsyncIterator[int]:
    """A running proxy. Yields its port."""
    port = port or free_port()
    proxy = ReverseProxy(path, target)
    settings = uvicorn.Config(proxy, port=port, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(settings)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    try:
        yield port
    finally:
        server.should_exit = True
        await serving
        await proxy.client.aclose()
