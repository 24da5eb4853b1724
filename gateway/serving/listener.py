"""The listening socket. It imports no web framework, so that the gateway listens before the slow imports."""

import socket

from gateway.settings import GatewaySettings

_BACKLOG = 2048

# What the kernel keeps of a response that it has not sent yet, for each connection. What is on its way to a fast reader
# comes on top, so this does not slow down long distances, as a small send buffer would.
_UNSENT_BYTES = 32 * 1024


def listen(settings: GatewaySettings) -> socket.socket:
    """A listening socket. Raises OSError if the address is not available."""
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Connections inherit this: the kernel drops a client whose receive window stays closed for this long. ASGI
            # has no means to do so.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.stalled_seconds * 1000))
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
