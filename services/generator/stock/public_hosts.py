"""Whether a host has public addresses only, so that no name leads a request into the network of the generator."""

import asyncio
import ipaddress
import socket
from urllib.request import getproxies, proxy_bypass


def is_address(host: str) -> bool:
    """Whether `host` is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def has_public_addresses(host: str, port: int) -> bool:
    """Whether `host` resolves to public addresses only. Raises OSError if it does not resolve.

    Always true where the environment names a proxy for https: the proxy resolves the name. If the name resolves to
    another address later, the server there lacks the certificate of `host`.
    """
    if getproxies().get("https") and not proxy_bypass(host):
        return True
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global for *_, address in found)
