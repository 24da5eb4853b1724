"""TCP ports for the processes of one machine."""

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


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen on the port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True
