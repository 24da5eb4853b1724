"""Answers reads from the cache before anything else runs, and drops the cache after each write."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.cache.answers import Answer
from gateway.cache.keys import key
from gateway.cache.store import Cache

_READS = frozenset({"GET", "HEAD"})
_UNCHANGING = frozenset({"GET", "HEAD", "OPTIONS"})


class CacheMiddleware:
    """Responds to anonymous reads whose answer is kept. Routes keep the answers (gateway.routes.reads)."""

    def __init__(self, app: ASGIApp, cache: Cache) -> None:
        """Wrap `app`."""
        self._app = app
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] in _READS:
            answer: Answer | None = None
            if is_anonymous(scope) and len(self._cache) and (name := key(scope)) is not None:
                answer = self._cache.fresh(name)
            if answer is None:
                await self._app(scope, receive, send)
            else:
                scope["route"] = answer.route  # for the metrics
                await answer.respond(scope, send)
        elif scope["method"] in _UNCHANGING:
            await self._app(scope, receive, send)
        else:
            await self._write(scope, receive, send)

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Drop the cache before the caller of a write hears of its result, unless it was refused."""

        async def send_after_drop(message: Message) -> None:
            if message["type"] == "http.response.start" and not 400 <= message["status"] < 500:
                self._cache.drop()
            await send(message)

        try:
            await self._app(scope, receive, send_after_drop)
        except BaseException:
            self._cache.drop()  # the caller has left, or nobody knows what was done
            raise


def is_anonymous(scope: Scope) -> bool:
    """Whether a request has no Authorization header of any kind. Only such requests are answered from the cache."""
    return not any(name == b"authorization" for name, _ in scope["headers"])
