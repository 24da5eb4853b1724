"""TCP ports for the processes of one machine."""

import errno
import socket
import sys

_CAN_RESERVE = sys.platform == "linux"


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port of `host` that is free and stays free for a server of ours until this process ends.

    On Linux a bound socket that does not listen reserves the port: the kernel gives it to no other `bind(0)` and to no
    outgoing connection, and a server that sets SO_REUSEADDR can still listen on it. Elsewhere the port is free now.
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind((host, 0))
    port: int = probe.getsockname()[1]
    if _CAN_RESERVE:
        probe.detach()
    else:
        probe.close()
    return port


def problem(host: str, port: int) -> str:
    """Why a server cannot listen on `host` and `port`; empty if it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror as error:
        return f"GATEWAY_HOST: {host} is no address: {error.strerror}"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"port {port} is in use; set GATEWAY_PORT to another one"
        if error.errno == errno.EADDRNOTAVAIL:
            return f"GATEWAY_HOST: {host} is no address of this machine"
        return f"cannot listen on {host}, port {port}: {error.strerror}"
    return ""
