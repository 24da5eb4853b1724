"""Content codings: text is compressed for clients that accept br or gzip."""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.encodings import MIN_BYTES, chosen, encoded
from gateway.etags import weak

# Never event streams, which must arrive at once, and never images, which are compressed already.
_TEXT = re.compile(r"text/(?!event-stream)|application/(?:json|javascript|xml|[\w.+-]+\+(?:json|xml))\b|image/svg\+xml")

# A body in several pieces, such as a large static file, is compressed as a whole up to this size.
_MAX_GATHERED = 512 * 1024


class CompressionMiddleware:
    """Compresses complete text responses to reads, of at least MIN_BYTES. Others, and coded ones, pass as they are."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}:
            send = _Sender(Headers(scope=scope).get("accept-encoding", ""), send).send
        await self._app(scope, receive, send)


class _Sender:
    """Sends one response. It holds its start until it knows whether the body is compressed."""

    def __init__(self, accept_encoding: str, send: Send) -> None:
        self._accept_encoding = accept_encoding
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        """Send, or keep, the next message of the application."""
        if message["type"] == "http.response.start":
            if self._may_compress(message):
                self._start = message
                return
        elif self._start is not None:
            await self._gather(message)
            return
        await self._send(message)

    def _may_compress(self, start: Message) -> bool:
        headers = MutableHeaders(scope=start)
        if not _TEXT.match(headers.get("content-type", "")) or "content-encoding" in headers:
            return False
        if "accept-encoding" not in headers.get("vary", "").lower():
            headers.add_vary_header("Accept-Encoding")
        if (
            start["status"] < 200
            or start["status"] in {204, 206, 304}
            or "no-transform" in headers.get("cache-control", "")
        ):
            return False
        length = headers.get("content-length", "")
        return not (length.isdigit() and int(length) < MIN_BYTES) and chosen(self._accept_encoding) != ""

    async def _gather(self, message: Message) -> None:
        start, body, more = self._start, message.get("body", b""), message.get("more_body", False)
        assert start is not None
        if self._body or more:
            self._body += body
            if more and len(self._body) <= _MAX_GATHERED:
                return
            body = bytes(self._body)
        self._start, self._body = None, bytearray()
        if not more and len(body) >= MIN_BYTES:
            coding = chosen(self._accept_encoding)
            body = await encoded(body, coding)
            headers = MutableHeaders(scope=start)
            headers["content-encoding"] = coding
            headers["content-length"] = str(len(body))
            if etag := headers.get("etag"):
                headers["etag"] = weak(etag)
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
