"""The bytes of images: /media/{key}, with conditional requests and ranges (RFC 9110)."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

import grpc
from fastapi import APIRouter, Header, Path, Request, Response
from frontispiece.storage.v1 import images_pb2
from starlette.types import Receive, Scope, Send

from gateway.errors import Problem
from gateway.etags import matches
from gateway.routes.dependencies import Context
from gateway.routes.problems import problems
from rpc import context, errors

router = APIRouter(tags=["media"])

_RANGE = re.compile(r"bytes=(?:(?P<first>\d{1,18})-(?P<last>\d{0,18})|-(?P<suffix>\d{1,18}))")

# The longest call for the bytes of an image. A client that takes longer gets the rest by another call.
_STREAM_SECONDS = 600.0

# The call ends for a client that has taken nothing for so long, and another one continues when it takes bytes again.
# So a slow reader costs storage nothing.
_STALLED_SECONDS = 0.5

_FOREVER = "public, max-age=31536000, immutable"
_SOON = "public, max-age=300"  # the image will move to another backend, and its URL will then redirect
_REDIRECT_SECONDS = 3600  # how long a redirect is cached that does not expire

_CONTENT_TYPES = frozenset({"image/png", "image/jpeg", "image/webp"})
_HEADERS = {
    "accept-ranges": "bytes",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
}


@dataclass(frozen=True)
class Range:
    """A range of bytes, as in GetImageRequest: a negative offset counts from the end; limit 0 is up to the end."""

    offset: int = 0
    limit: int = 0


WHOLE = Range()


_BYTES = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in sorted(_CONTENT_TYPES)}


@router.get(
    "/media/{key:path}",
    response_class=Response,
    responses={
        **problems(401, 404, 416, 422),
        200: {"description": "The image.", "content": _BYTES},
        206: {"description": "The requested range of the image.", "content": _BYTES},
        302: {"description": "The image is at another address."},
        304: {"description": "The etag is current."},
    },
    summary="Read an image",
    name="get_image",
)
async def media(
    app: Context,
    request: Request,
    key: Annotated[str, Path(description="The `key` of the image. It may contain slashes.")],
    range_header: Annotated[str, Header(alias="Range", description="A range of bytes.")] = "",
    if_none_match: Annotated[str, Header(description="The etag that you have.")] = "",
    if_range: Annotated[str, Header(description="The etag to which the range belongs.")] = "",
) -> Response:
    """The bytes of an image. Its etag is its SHA-256. Supports conditional requests, ranges and HEAD."""
    images = app.clients.images
    head = request.method == "HEAD"
    part = WHOLE if head else parse_range(range_header)
    if if_none_match or (if_range and part is not WHOLE):
        header, call = await _open(images, key, WHOLE, header_only=True)
        call.cancel()
        if if_none_match and matches(if_none_match, _etag(header.image)):
            return Response(status_code=304, headers=_validators(header))
        if if_range and if_range.strip() != _etag(header.image):
            part = WHOLE
    only_header = head or app.image_reads.locked()  # then the bytes have to wait
    try:
        async with app.image_reads:
            header, call = await _open(images, key, part, header_only=only_header)
    except errors.OutOfRange:
        raise await _not_satisfiable(images, key) from None
    if header.redirect_url:
        call.cancel()
        return _redirect(header)
    source = _Source(images, app.image_reads, header, None if only_header else call)
    return ImageBytes(header, source, partial=part is not WHOLE, head=head)


router.add_api_route("/media/{key:path}", media, methods=["HEAD"], include_in_schema=False)


def parse_range(value: str) -> Range:
    """The range in a Range header. WHOLE if there are none or several, or if it is malformed (RFC 9110, 14.2)."""
    match = _RANGE.fullmatch(value.replace(" ", "").lower())  # names of units have no case
    if match is None:
        return WHOLE
    if match["suffix"]:
        suffix = int(match["suffix"])
        if suffix == 0:
            return Range(offset=2**62)  # no byte: not satisfiable
        return Range(offset=-suffix)
    first = int(match["first"])
    if not match["last"]:
        return Range(offset=first)
    last = int(match["last"])
    return WHOLE if last < first else Range(offset=first, limit=last - first + 1)


async def _open(
    images: Any, key: str, part: Range, *, header_only: bool = False, accept_redirect: bool = True
) -> tuple[images_pb2.GetImageHeader, Any]:
    """Begin to read an image: its header, and the call that continues with the bytes."""
    context.set_remaining_seconds(None)
    request = images_pb2.GetImageRequest(
        key=key, offset=part.offset, limit=part.limit, accept_redirect=accept_redirect, header_only=header_only
    )
    call = images.GetImage(request, timeout=_STREAM_SECONDS)
    try:
        first = await call.read()
    except grpc.aio.AioRpcError as error:
        failure = errors.from_call(error)
        if isinstance(failure, errors.NotFound | errors.InvalidArgument):
            raise Problem(404, "IMAGE_NOT_FOUND", "the image does not exist") from None
        raise failure from None
    except asyncio.CancelledError:
        call.cancel()  # cancelling the read does not always end the call
        raise
    if first is grpc.aio.EOF or first.WhichOneof("part") != "header":
        call.cancel()
        raise errors.Unknown("storage sent no header")
    return first.header, call


async def _not_satisfiable(images: Any, key: str) -> Problem:
    header, call = await _open(images, key, WHOLE, header_only=True)
    call.cancel()
    size = header.image.image.file.size_bytes
    headers = {"content-range": f"bytes */{size}"}
    return Problem(416, "OUT_OF_RANGE", f"the image has {size} bytes", headers=headers)


def _etag(image: images_pb2.Image) -> str:
    return f'"{image.image.file.sha256}"'


def _validators(header: images_pb2.GetImageHeader) -> dict[str, str]:
    """The headers that 200 and 304 share."""
    final = header.image.backend == images_pb2.IMAGE_BACKEND_LOCAL and not header.redirect_url
    return {"etag": _etag(header.image), "cache-control": _FOREVER if final else _SOON}


def _redirect(header: images_pb2.GetImageHeader) -> Response:
    if urlsplit(header.redirect_url).scheme not in {"http", "https"}:
        raise errors.Unknown("storage sent a redirect that is not a web address")
    seconds = _REDIRECT_SECONDS
    if header.HasField("redirect_ttl"):
        # Half of the time, so that a cached redirect does not outlive its target.
        seconds = min(seconds, max(0, header.redirect_ttl.ToMilliseconds() // 2000))
    headers = {"location": header.redirect_url, "cache-control": f"public, max-age={seconds}"}
    return Response(status_code=302, headers=headers)


class _Source:
    """The bytes that storage sends after a header. Whoever takes them may pause: then no call is open."""

    def __init__(self, images: Any, reads: asyncio.Semaphore, header: images_pb2.GetImageHeader, call: Any) -> None:
        """`call` continues after `header`; it may be None. `reads` bounds the calls of all clients that take bytes."""
        self._images = images
        self._reads = reads
        self._is_reading = False
        self._key = header.image.image.key
        self._position = header.range_start
        self._end = header.range_start + header.range_size
        self._call: Any = call

    async def chunks(self) -> AsyncIterator[bytes]:
        """All bytes. Raises RpcError if storage fails."""
        while self._position < self._end:
            if not self._is_reading:
                await self._begin()
            message = await self._call.read()
            if message is grpc.aio.EOF:
                raise errors.DataLoss(f"storage sent {self._end - self._position} bytes too few")
            chunk = message.chunk
            del message  # it has the same bytes once more
            self._position += len(chunk)
            yield chunk

    def pause(self) -> None:
        """End the call."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._is_reading:
            self._is_reading = False
            self._reads.release()

    async def _begin(self) -> None:
        """Wait for a turn, without a call, and open the call if there is none."""
        if self._reads.locked():
            self.pause()
        await self._reads.acquire()
        self._is_reading = True
        if self._call is None:
            part = Range(self._position, self._end - self._position)
            _, self._call = await _open(self._images, self._key, part, accept_redirect=False)


class ImageBytes(Response):
    """Sends the bytes of an image as they arrive. A slow client slows storage, so nothing is buffered here."""

    def __init__(self, header: images_pb2.GetImageHeader, source: _Source, *, partial: bool, head: bool) -> None:
        """Send what follows `header`. `head`: only the headers."""
        image = header.image.image.file
        kind = image.content_type if image.content_type in _CONTENT_TYPES else "application/octet-stream"
        headers = {**_HEADERS, **_validators(header), "content-type": kind}
        headers["content-length"] = str(image.size_bytes if head else header.range_size)
        if partial:
            last = header.range_start + header.range_size - 1
            headers["content-range"] = f"bytes {header.range_start}-{last}/{image.size_bytes}"
        super().__init__(status_code=206 if partial else 200, headers=headers)
        self._source = source
        self._head = head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response. If storage fails, it ends before its length, so that the client notices."""
        loop = asyncio.get_running_loop()
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if not self._head:
                async for chunk in self._source.chunks():
                    stalled = loop.call_later(_STALLED_SECONDS, self._source.pause)
                    try:
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    finally:
                        stalled.cancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._source.pause()
