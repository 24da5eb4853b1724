"""Which other origins may call the gateway from a browser: an exact list, empty unless set."""

from starlette.datastructures import Headers
from starlette.responses import Response

from gateway.errors import Problem

_METHODS = "GET, HEAD, POST, PATCH, DELETE"
_REQUEST_HEADERS = (
    "authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, prefer, range, x-request-id"
)
_RESPONSE_HEADERS = "etag, location, preference-applied, retry-after, x-request-id"


class CorsPolicy:
    """Knows the origins. Credentials are never allowed: the token is a header that a page sends itself."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        """Allow exactly `origins`, each scheme, host and port in lower case."""
        self._origins = frozenset(origins)

    def answer_headers(self, origin: str | None) -> list[tuple[str, str]]:
        """What CORS adds to the answer of a request from `origin`."""
        if not self._origins:
            return []
        vary = [("vary", "origin")]
        if origin is None or origin.lower() not in self._origins:
            return vary
        return [*vary, ("access-control-allow-origin", origin), ("access-control-expose-headers", _RESPONSE_HEADERS)]

    def preflight(self, method: str, headers: Headers) -> Response | None:
        """The answer to a preflight; None for any other request. Raises Problem for an origin not on the list."""
        origin = headers.get("origin")
        if method != "OPTIONS" or origin is None or "access-control-request-method" not in headers:
            return None
        if origin.lower() not in self._origins:
            raise Problem(403, "ORIGIN_NOT_ALLOWED", "pages of this origin may not call this address")
        return Response(
            status_code=204,
            headers={
                "access-control-allow-methods": _METHODS,
                "access-control-allow-headers": _REQUEST_HEADERS,
                "access-control-max-age": "600",
            },
        )
