"""A finished answer to a read: its bytes in each coding, its etag, and the conditional responses to it."""

import asyncio
from collections.abc import Mapping
from hashlib import sha1
from typing import Any

import orjson
from starlette.types import Scope, Send

from gateway import encodings
from gateway.cache.store import Kept
from gateway.etags import matches, weak

Headers = list[tuple[bytes, bytes]]

_OVERHEAD_BYTES = 2048


class Answer(Kept):
    """A response with status 200 to GET and HEAD. If-None-Match gives 304, Accept-Encoding a compressed body."""

    def __init__(self, body: bytes, content_type: str, headers: Mapping[str, str], etag: str = "") -> None:
        """`headers`: further ones, with `vary` if it depends on more than Accept-Encoding. `etag`: default, a hash."""
        self.body = body
        self.route: Any = None
        self.size = 2 * len(body) + _OVERHEAD_BYTES  # with its compressed forms
        self._type = content_type.encode("latin-1")
        self._etag = (etag or f'"{_digest(body)}"').encode("latin-1")
        vary = headers.get("vary")
        self._shared: Headers = [
            (b"vary", (f"{vary}, accept-encoding" if vary else "accept-encoding").encode("latin-1")),
            *((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items() if name != "vary"),
        ]
        self._forms: dict[encodings.Coding, tuple[bytes, Headers]] = {"": (body, self._head(body, ""))}
        self._making: dict[encodings.Coding, asyncio.Task[bytes]] = {}

    @classmethod
    def json(cls, document: Any, headers: Mapping[str, str], etag: str = "") -> "Answer":
        """A document as JSON."""
        return cls(orjson.dumps(document), "application/json", headers, etag)

    async def respond(self, scope: Scope, send: Send) -> None:
        """Send the response to the request of `scope`. The server drops the body of a response to HEAD."""
        accepted = condition = b""
        for name, value in scope["headers"]:
            if name == b"accept-encoding":
                accepted = accepted + b"," + value if accepted else value
            elif name == b"if-none-match":
                condition = condition + b"," + value if condition else value
        coding = encodings.chosen(accepted.decode("latin-1")) if len(self.body) >= encodings.MIN_BYTES else ""
        if condition and matches(condition.decode("latin-1"), self._etag.decode("latin-1")):
            etag = weak(self._etag.decode("latin-1")).encode("latin-1") if coding else self._etag
            await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", etag), *self._shared]})
            await send({"type": "http.response.body", "body": b""})
            return
        body, headers = self._forms.get(coding) or await self._form(coding)
        # The list is copied, because middleware adds to it.
        await send({"type": "http.response.start", "status": 200, "headers": headers.copy()})
        await send({"type": "http.response.body", "body": body})

    async def _form(self, coding: encodings.Coding) -> tuple[bytes, Headers]:
        """The body in a coding and the headers of it; made once, whoever asks first."""
        if coding not in self._making:
            self._making[coding] = asyncio.create_task(encodings.encoded(self.body, coding))
        body = await asyncio.shield(self._making[coding])
        return self._forms.setdefault(coding, (body, self._head(body, coding)))

    def _head(self, body: bytes, coding: encodings.Coding) -> Headers:
        etag = weak(self._etag.decode("latin-1")).encode("latin-1") if coding else self._etag
        own = [(b"content-type", self._type), (b"content-length", b"%d" % len(body)), (b"etag", etag)]
        if coding:
            own.append((b"content-encoding", coding.encode()))
        return [*own, *self._shared]


def _digest(body: bytes) -> str:
    # SHA-1, because processors compute it at twice the speed of BLAKE2; nobody gains from two pages with one etag.
    return sha1(body, usedforsecurity=False).hexdigest()[:24]
