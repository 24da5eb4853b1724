"""How many connections clients may hold: in all, and from one address."""

import logging
import resource
import time
from collections import Counter, OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Protocol

from gateway.middleware.metrics import GatewayMetrics
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

# Files besides the connections of clients: those of gRPC, logs, and files that are being sent.
_OTHER_FILES = 256

_LOG_SECONDS = 10.0


class Client(Protocol):
    """A connection of a client."""

    address: str

    def give_way(self) -> None:
        """Close the connection, which is in no request, because a new one needs its place."""


@dataclass(frozen=True)
class Refusal:
    """Why a new connection is refused: the status and the detail of its problem."""

    status: int
    detail: str


class Connections:
    """All connections of the server. At a limit the one that has been idle longest gives way to a new one."""

    def __init__(
        self,
        *,
        most: int,
        most_per_address: int,
        proxies: Collection[IPv4Network | IPv6Network],
        metrics: GatewayMetrics,
    ) -> None:
        """Hold at most `most` connections, and `most_per_address` from one address that is in none of `proxies`."""
        self._most = most
        self._most_per_address = most_per_address
        self._proxies = proxies
        self._metrics = metrics
        self._all: set[Client] = set()
        self._by_address: dict[str, set[Client]] = {}
        self._idle: OrderedDict[Client, None] = OrderedDict()
        self._counted: Counter[str] = Counter()
        self._logged = -_LOG_SECONDS

    def __len__(self) -> int:
        """The number of connections."""
        return len(self._all)

    def bounded_address(self, peer: object) -> str:
        """What is counted as one address; "" for a peer without a limit of its own: a proxy, or no network address."""
        try:
            address = ip_address(str(peer[0]).partition("%")[0])  # type: ignore[index]
        except (TypeError, IndexError, ValueError):
            return ""
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        if any(address in network for network in self._proxies):
            return ""
        return str(IPv6Network((address, 64), strict=False)) if address.version == 6 else str(address)

    def admit(self, client: Client) -> Refusal | None:
        """Count a new connection, which is idle until its first request; None if it may stay."""
        if len(self._all) >= self._most and not self._make_room(self._all):
            self.note("refused", client.address)
            return Refusal(503, "too many connections are open")
        own = self._by_address.get(client.address, set()) if client.address else set()
        if len(own) >= self._most_per_address and not self._make_room(own):
            self.note("refused", client.address)
            return Refusal(429, "too many connections from your address are open")
        self._all.add(client)
        self._idle[client] = None
        if client.address:
            self._by_address.setdefault(client.address, set()).add(client)
        self._metrics.connections.set(len(self._all))
        return None

    def remove(self, client: Client) -> None:
        """Forget a connection that is closed, or about to be."""
        self._all.discard(client)
        self._idle.pop(client, None)
        if own := self._by_address.get(client.address):
            own.discard(client)
            if not own:
                del self._by_address[client.address]
        self._metrics.connections.set(len(self._all))

    def set_idle(self, client: Client, idle: bool) -> None:
        """Note whether a connection is in no request. An idle one is the last to give way."""
        self._idle.pop(client, None)
        if idle and client in self._all:
            self._idle[client] = None

    def note(self, reason: str, address: str) -> None:
        """Count a connection that was refused or cut off, and log how many there were, at most every ten seconds."""
        self._metrics.connections_cut.labels(reason).inc()
        self._counted[reason] += 1
        if (now := time.monotonic()) - self._logged >= _LOG_SECONDS:
            self._logged = now
            log.warning("connections cut", extra={**self._counted, "open": len(self._all), "last_address": address})
            self._counted.clear()

    def _make_room(self, among: set[Client]) -> bool:
        """Close the connection of `among` that has been idle longest; whether there was one."""
        for client in self._idle:
            if client in among:
                self.remove(client)
                self.note("gave_way", client.address)
                client.give_way()
                return True
        return False


def connections(settings: GatewaySettings, metrics: GatewayMetrics) -> Connections:
    """The connections of a server with these settings. Raises the soft limit of open files as far as is needed."""
    wanted = settings.max_connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    most = settings.max_connections if soft == resource.RLIM_INFINITY else min(wanted, soft) - _OTHER_FILES
    if most < settings.max_connections:
        log.warning("fewer connections than set, because of the limit of open files", extra={"connections": most})
    return Connections(
        most=max(1, most),
        most_per_address=settings.max_connections_per_address,
        proxies=settings.proxies,
        metrics=metrics,
    )
