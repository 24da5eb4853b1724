"""The HTTP server: its socket, and a shutdown that open event streams do not hold up."""

import asyncio
import logging
import socket

import uvicorn
from fastapi import FastAPI

from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

_BACKLOG = 2048


class GatewayServer(uvicorn.Server):
    """uvicorn, which tells the application at once when it stops."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        """`stopping` is set when the server begins to stop: event streams then end by themselves."""
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let requests end, cancel those that do not."""
        log.info("draining")
        self._stopping.set()
        await super().shutdown(sockets)


def listen(settings: GatewaySettings) -> socket.socket:
    """A listening socket. Raises OSError when the address cannot be had."""
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Connections inherit it: the kernel drops a client that stopped reading, whose window stays closed for so
            # long. ASGI has no means to do it.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.stalled_seconds * 1000))
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def server(app: FastAPI, settings: GatewaySettings) -> GatewayServer:
    """The server of `app`, not yet running."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # gateway.edge writes a better line
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        lifespan="off",
        ws="none",
        h11_max_incomplete_event_size=16 * 1024,
    )
    return GatewayServer(config, app.state.gateway.stopping)
