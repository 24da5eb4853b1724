"""`python -m gateway`: builds the gateway from its parts and runs it.

The socket listens before the web framework is imported, which takes most of the start. A client that connects earlier
waits instead of being refused.
"""

import asyncio
import logging
import os
import signal
import socket
import sys

from gateway.serving.listener import listen
from gateway.settings import GatewaySettings
from gateway.token_file import TokenFileError, admin_token
from rpc import logs
from rpc.settings import announce, load

log = logging.getLogger("gateway")


async def main(settings: GatewaySettings, token: str, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""
    from gateway.app import create_app
    from gateway.clients import open_clients
    from gateway.serving.server import server

    async with open_clients(settings) as clients:
        http = server(create_app(settings, clients, token), settings)
        host, port = listener.getsockname()[:2]
        log.info("serving", extra={"address": f"{host}:{port}", "pid": os.getpid()})
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, http.stop)
        await http.serve(sockets=[listener])
    log.info("stopped")


def start() -> None:
    """Read the settings and run. An invalid setting ends the process with its name."""
    settings = load(GatewaySettings)
    logs.configure("gateway", settings.log_level, settings.log_format)
    announce(settings)
    try:
        token = admin_token(settings)
        listener = listen(settings)
    except TokenFileError as error:
        sys.exit(f"setting GATEWAY_TOKEN_FILE: {error}")
    except OSError as error:
        sys.exit(f"setting GATEWAY_HOST or GATEWAY_PORT: cannot listen on {settings.host}:{settings.port}: {error}")
    with listener:
        from rpc.server import run

        run(main(settings, token, listener))


if __name__ == "__main__":
    start()
