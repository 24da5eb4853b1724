"""The HTTP server, with a shutdown that does not wait for open event streams."""

import contextlib
import functools
import logging
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from gateway.app import edge
from gateway.cache.invalidation import following
from gateway.context import AppContext
from gateway.middleware.pieces import PiecesMiddleware
from gateway.serving.connections import connections
from gateway.serving.protocol import GatewayProtocol
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)


class GatewayServer(uvicorn.Server):
    """uvicorn that notifies the application when shutdown begins."""

    def __init__(self, config: uvicorn.Config, context: AppContext) -> None:
        """`context.stopping` is set when shutdown begins; event streams then end."""
        super().__init__(config)
        self._context = context

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `stop` is called, and follow the changes of posts meanwhile."""
        async with following(self._context.clients.posts, self._context.cache):
            await super().serve(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers: gateway.__main__ calls `stop`. uvicorn's own would end the process by the signal."""
        yield

    def stop(self) -> None:
        """Begin the shutdown. A second call does not wait for requests in progress."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the socket, wait for requests in progress, and cancel those that take too long."""
        log.info("draining")
        self._context.stopping.set()
        await super().shutdown(sockets)


def server(app: FastAPI, settings: GatewaySettings) -> GatewayServer:
    """The server of `app`. It is not started."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # its messages repeat those of the gateway
    context: AppContext = app.state.context
    admitted = connections(settings, context.metrics)
    config = uvicorn.Config(
        PiecesMiddleware(edge(app), cut=lambda: admitted.note("slow_reader", "")),
        log_config=None,
        access_log=False,  # gateway.middleware.metrics logs requests
        server_header=False,
        proxy_headers=False,  # nothing depends on the address and the scheme that a proxy names
        timeout_graceful_shutdown=settings.shutdown_seconds,
        lifespan="off",
        http=functools.partial(  # type: ignore[arg-type]
            GatewayProtocol,
            connections=admitted,
            head_seconds=settings.client_seconds,
            idle_seconds=settings.idle_seconds,
            stalled_seconds=settings.stalled_seconds,
        ),
        ws="none",
        reset_contextvars=True,  # a pipelined request must not inherit the principal of the one before
    )
    return GatewayServer(config, context)
