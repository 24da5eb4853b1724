"""Bytes of images: /media/{key}, with conditional requests and ranges (RFC 9110)."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
from frontispiece.storage.v1 import images_pb2
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import Problem
from gateway.routes.plain import PlainRoute
from gateway.state import gateway
from rpc import context, errors

_KEY = re.compile(r"(?!.*(^|/)\.\.?(/|$))[A-Za-z0-9_-][A-Za-z0-9._/-]{0,511}")
_RANGE = re.compile(r"bytes=(?:(?P<first>\d{1,18})-(?P<last>\d{0,18})|-(?P<suffix>\d{1,18}))")

# A read of 32 MiB by a slow client; storage's chunks wait meanwhile.
_STREAM_SECONDS = 600.0

_FOREVER = "public, max-age=31536000, immutable"
_SOON = "public, max-age=300"  # the bytes stay the same, but the place to fetch them from will change
_REDIRECT_SECONDS = 3600  # of a redirect that does not end

_CONTENT_TYPES = frozenset({"image/png", "image/jpeg", "image/webp"})
_HEADERS = {
    "accept-ranges": "bytes",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
}


@dataclass(frozen=True)
class Range:
    """The bytes wanted, as storage takes them: a negative offset counts from the end, limit 0 is up to the end."""

    offset: int = 0
    limit: int = 0


WHOLE = Range()


async def media(request: Request) -> Response:
    """Answer an image: 200, 206, 304, 416, or 302 to where it is."""
    key = request.path_params["key"]
    if not _KEY.fullmatch(key):
        raise _unknown()
    images = gateway(request).clients.images
    wanted = parse_range(request.headers.get("range", "")) if request.method == "GET" else WHOLE
    if_none_match = request.headers.get("if-none-match")
    if_range = request.headers.get("if-range")
    if if_none_match or (if_range and wanted is not WHOLE):
        header, call = await _open(images, key, WHOLE, header_only=True)
        call.cancel()
        if if_none_match and _matches(if_none_match, header.image):
            return Response(status_code=304, headers=_validators(header))
        if if_range and if_range.strip() != _etag(header.image):
            wanted = WHOLE
    try:
        header, call = await _open(images, key, wanted, header_only=request.method == "HEAD")
    except errors.OutOfRange:
        raise await _not_satisfiable(images, key) from None
    if header.redirect_url:
        call.cancel()
        return _redirect(header)
    return ImageBytes(header, call, partial=wanted is not WHOLE, head=request.method == "HEAD")


def parse_range(value: str) -> Range:
    """The range of a Range header; WHOLE for none, several or a malformed one, which RFC 9110 says to ignore."""
    match = _RANGE.fullmatch(value.replace(" ", ""))
    if match is None:
        return WHOLE
    if match["suffix"]:
        suffix = int(match["suffix"])
        if suffix == 0:
            return Range(offset=2**62)  # no byte at all: not satisfiable
        return Range(offset=-suffix)
    first = int(match["first"])
    if not match["last"]:
        return Range(offset=first)
    last = int(match["last"])
    return WHOLE if last < first else Range(offset=first, limit=last - first + 1)


async def _open(images: Any, key: str, wanted: Range, *, header_only: bool) -> tuple[images_pb2.GetImageHeader, Any]:
    """Start reading: the header, and the call that goes on with the bytes."""
    context.set_remaining_seconds(None)
    request = images_pb2.GetImageRequest(
        key=key, offset=wanted.offset, limit=wanted.limit, accept_redirect=True, header_only=header_only
    )
    call = images.GetImage(request, timeout=_STREAM_SECONDS)
    try:
        first = await call.read()
    except grpc.aio.AioRpcError as error:
        failure = errors.from_call(error)
        if isinstance(failure, errors.NotFound | errors.InvalidArgument):
            raise _unknown() from None
        raise failure from None
    except asyncio.CancelledError:
        call.cancel()  # a read that is cancelled does not always end its call
        raise
    if first is grpc.aio.EOF or first.WhichOneof("part") != "header":
        call.cancel()
        raise errors.Unknown("storage sent no header")
    return first.header, call


def _unknown() -> Problem:
    return Problem(404, "IMAGE_NOT_FOUND", "there is no such image")


async def _not_satisfiable(images: Any, key: str) -> Problem:
    header, call = await _open(images, key, WHOLE, header_only=True)
    call.cancel()
    size = header.image.size_bytes
    headers = {"content-range": f"bytes */{size}"}
    return Problem(416, "OUT_OF_RANGE", f"the image has {size} bytes", headers=headers)


def _etag(image: images_pb2.Image) -> str:
    return f'"{image.sha256}"'


def _matches(if_none_match: str, image: images_pb2.Image) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or _etag(image) in tags


def _validators(header: images_pb2.GetImageHeader) -> dict[str, str]:
    """What a 200 and a 304 have in common."""
    final = header.image.backend == images_pb2.IMAGE_BACKEND_LOCAL and not header.redirect_url
    return {"etag": _etag(header.image), "cache-control": _FOREVER if final else _SOON}


def _redirect(header: images_pb2.GetImageHeader) -> Response:
    if urlsplit(header.redirect_url).scheme not in {"http", "https"}:
        raise errors.Unknown("storage sent a redirect that is no web address")
    seconds = _REDIRECT_SECONDS
    if header.HasField("redirect_ttl"):
        seconds = min(
            seconds, max(0, header.redirect_ttl.ToMilliseconds() // 2000)
        )  # half: it must not outlive the link
    headers = {"location": header.redirect_url, "cache-control": f"public, max-age={seconds}"}
    return Response(status_code=302, headers=headers)


class ImageBytes(Response):
    """The bytes of an image as they come from storage; a slow reader slows storage, nothing piles up between."""

    def __init__(self, header: images_pb2.GetImageHeader, call: Any, *, partial: bool, head: bool) -> None:
        """Send what follows `header` on `call`; `head`: only the headers."""
        image = header.image
        kind = image.content_type if image.content_type in _CONTENT_TYPES else "application/octet-stream"
        headers = {**_HEADERS, **_validators(header), "content-type": kind}
        self._size = image.size_bytes if head else header.range_size
        headers["content-length"] = str(self._size)
        if partial:
            last = header.range_start + header.range_size - 1
            headers["content-range"] = f"bytes {header.range_start}-{last}/{image.size_bytes}"
        super().__init__(status_code=206 if partial else 200, headers=headers)
        self._call = call
        self._head = head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. When storage breaks off, the answer ends short of its length, so that the client notices."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            sent = 0
            if not self._head:
                async for chunk in self._chunks():
                    sent += len(chunk)
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                if sent != self._size:
                    raise errors.DataLoss(f"storage sent {sent} of {self._size} bytes")
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._call.cancel()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            part = await self._call.read()
            if part is grpc.aio.EOF:
                return
            yield part.chunk


route = PlainRoute("/media/{key:path}", media, methods=["GET"])
