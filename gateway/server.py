"""The HTTP server: its socket, and a shutdown that open event streams do not hold up."""

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from gateway.protocol import GatewayProtocol
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

_BACKLOG = 2048


class GatewayServer(uvicorn.Server):
    """uvicorn, which tells the application at once when it stops."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        """`stopping` is set when the server begins to stop: event streams then end by themselves."""
        super().__init__(config)
        self._stopping = stopping

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: gateway.__main__ turns them into `stop`. uvicorn would end the process by the signal."""
        yield

    def stop(self) -> None:
        """Begin to stop; a second time, do not wait for requests in progress."""
        self.force_exit = self.should_exit
        self.should_exit = True

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
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it would say again what gateway says
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # gateway.edge writes a better line
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        lifespan="off",
        http=functools.partial(GatewayProtocol, head_seconds=settings.client_seconds),  # type: ignore[arg-type]
        ws="none",
        reset_contextvars=True,  # a pipelined request must not begin with the principal of the one before
    )
    return GatewayServer(config, app.state.gateway.stopping)
