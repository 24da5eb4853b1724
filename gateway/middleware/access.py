"""Authentication with the admin token, and admission: every write needs it, whatever the route."""

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from rpc import context, errors

ADMIN = "admin"
ANONYMOUS = "anonymous"

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Authenticator:
    """Compares bearer tokens with the admin token."""

    def __init__(self, token: str) -> None:
        """`token`: the admin token."""
        self._token = token.encode()

    def principal(self, authorization: str | None) -> str:
        """The principal of an Authorization header: ADMIN, or ANONYMOUS without a bearer token.

        Another scheme counts as no token, because a proxy in front may use Basic authentication of its own. Raises
        Unauthenticated for a wrong token.
        """
        scheme, _, credentials = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return ANONYMOUS
        if not hmac.compare_digest(credentials.strip().encode("latin-1", "replace"), self._token):
            raise errors.Unauthenticated("the bearer token is not valid", reason="INVALID_TOKEN")
        return ADMIN


def is_editor() -> bool:
    """Whether the current request carries the admin token."""
    return context.principal.get() == ADMIN


def require_editor() -> None:
    """Raise Unauthenticated unless the current request carries the admin token."""
    if not is_editor():
        raise errors.Unauthenticated(
            "the admin token is required: Authorization: Bearer <token>", reason="UNAUTHENTICATED"
        )


class AccessMiddleware:
    """Sets the principal of a request and refuses writes without the token, before the body is read.

    A new route with a write method is therefore protected by default. Reads that need the token call require_editor.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        """Wrap `app`."""
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises Unauthenticated."""
        if scope["type"] == "http":
            context.principal.set(self._authenticator.principal(Headers(scope=scope).get("authorization")))
            if scope["method"] not in _READS:
                require_editor()
        await self._app(scope, receive, send)
