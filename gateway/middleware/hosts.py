"""The Host header: exactly one, and one of ours where a list is set."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import Problem

# Probes of orchestrators and monitors address a container by its number.
_ANY_HOST = frozenset({"/healthz", "/readyz", "/metrics"})


def host_name(value: str) -> str:
    """The name in a Host header in lower case, without the port; "" for what is no host."""
    try:
        parts = urlsplit(f"//{value}")
        parts.port  # noqa: B018  # raises ValueError for what is no number
    except ValueError:
        return ""
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return ""
    return (parts.hostname or "").rstrip(".")


class HostsMiddleware:
    """Refuses requests for other hosts by status 421, and those without exactly one Host by status 400."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        """Wrap `app`. `hosts`: names in lower case, `*.example.org` for all below one. Empty: any host."""
        self._app = app
        self._hosts = frozenset(host for host in hosts if not host.startswith("*."))
        self._suffixes = tuple(host[1:] for host in hosts if host.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and (problem := self._refusal(scope)):
            await problem.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        values = [value for name, value in scope["headers"] if name == b"host"]
        if len(values) != 1 and not (scope.get("http_version") == "1.0" and not values):
            return Problem(400, "MALFORMED_REQUEST", "a request must have exactly one Host header")
        if not (self._hosts or self._suffixes) or scope["path"] in _ANY_HOST:
            return None
        name = host_name(values[0].decode("latin-1")) if values else ""
        if name in self._hosts or (self._suffixes and name.endswith(self._suffixes)):
            return None
        return Problem(421, "UNKNOWN_HOST", "this site does not have that host name")
