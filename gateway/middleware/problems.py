"""Turns every exception that no route has handled into a problem document."""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import from_exception

log = logging.getLogger(__name__)


class ProblemsMiddleware:
    """Responds to exceptions of routes and of the middleware inside this one."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Never raises an Exception."""
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            problem = from_exception(error)
            if started:
                # The server closes the connection, so the client sees that the response is incomplete.
                log.error("response broken off", extra={"code": problem.code, "detail": problem.detail})
                return
            await problem.response()(scope, receive, send)
