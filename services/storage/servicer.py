"""storage.v1.ImageService: contract messages to calls of the core, and back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from frontispiece.storage.v1 import images_pb2, images_pb2_grpc
from frontispiece.types.v1 import image_pb2

from rpc.errors import DeadlineExceeded, InvalidArgument, RpcError
from rpc.image_urls import ImageUrls
from rpc.limits import limits
from services.storage.images import Images
from services.storage.models import ImageHandle, StoredImage
from services.storage.readiness import Readiness

SERVICE_NAME = images_pb2.DESCRIPTOR.services_by_name["ImageService"].full_name

READER_SECONDS = 60.0
"""A reader that takes nothing for so long is cut."""

DRAIN_BYTES = int(limits(images_pb2.StoreImageHeader, "size_bytes").max)
DRAIN_SECONDS = 2.0

Context = grpc.aio.ServicerContext[Any, Any]


class ImageServicer(images_pb2_grpc.ImageServiceServicer):
    """The gRPC interface of the storage process."""

    def __init__(self, images: Images, urls: ImageUrls, readiness: Readiness, bucket: str) -> None:
        """`bucket` is its name, or empty for local storage."""
        self._images = images
        self._urls = urls
        self._readiness = readiness
        self._bucket = bucket

    async def StoreImage(
        self, request_iterator: AsyncIterator[images_pb2.StoreImageRequest], context: Context
    ) -> images_pb2.StoreImageResponse:
        """Store one image."""
        try:
            stored = await self._images.store(await _header(request_iterator), _chunks(request_iterator))
        except RpcError:
            await _drain(request_iterator)
            raise
        return images_pb2.StoreImageResponse(image=self._image(stored))

    async def GetImage(  # type: ignore[override]  # it writes itself: a generator cannot limit the time of a write
        self, request: images_pb2.GetImageRequest, context: Context
    ) -> None:
        """Send an image, or the address to fetch it from. Raises DeadlineExceeded for a reader that takes nothing."""
        handle = await self._images.find(
            request.key, request.offset, request.limit, accept_redirect=request.accept_redirect
        )
        await context.write(images_pb2.GetImageResponse(header=self._image_header(handle)))
        if request.header_only or handle.redirect:
            return
        async with contextlib.aclosing(self._images.read(handle)) as pieces:
            async for piece in pieces:
                try:
                    async with asyncio.timeout(READER_SECONDS):
                        await context.write(images_pb2.GetImageResponse(chunk=piece))
                except TimeoutError as error:
                    raise DeadlineExceeded(
                        f"the reader took nothing for {READER_SECONDS:g} s", reason="READER_TOO_SLOW"
                    ) from error

    async def SetImageState(
        self, request: images_pb2.SetImageStateRequest, context: Context
    ) -> images_pb2.SetImageStateResponse:
        """Mark an image as draft or published."""
        marked = await self._images.set_state(request.key, request.state)
        return images_pb2.SetImageStateResponse(image=self._image(marked))

    async def GetStatus(self, request: images_pb2.GetStatusRequest, context: Context) -> images_pb2.GetStatusResponse:
        """Report the status of the last check."""
        status = self._readiness.status
        spooled = self._images.backend.spooled()
        return images_pb2.GetStatusResponse(
            backend=self._images.backend.kind,
            healthy=status.healthy,
            reason=status.reason,
            bucket=self._bucket,
            base_url=self._urls.base_url,
            spool_count=spooled.count,
            spool_bytes=spooled.size_bytes,
        )

    def _image_header(self, handle: ImageHandle) -> images_pb2.GetImageHeader:
        header = images_pb2.GetImageHeader(
            image=self._image(handle.image), range_start=handle.range.start, range_size=handle.range.size
        )
        if handle.redirect:
            header.redirect_url = handle.redirect.url
            if handle.redirect.ttl_seconds is not None:
                header.redirect_ttl.FromNanoseconds(int(handle.redirect.ttl_seconds * 1e9))
        return header

    def _image(self, image: StoredImage) -> images_pb2.Image:
        message = images_pb2.Image(
            image=image_pb2.StoredImage(
                key=image.key,
                url=self._images.url_of(image),
                file=image.file,
                thumbhash=image.thumbhash,
                in_bucket=self._images.is_in_bucket(image),
            ),
            backend=image.backend,
            state=image.state,
        )
        message.create_time.FromDatetime(image.create_time)
        return message


async def _header(requests: AsyncIterator[images_pb2.StoreImageRequest]) -> images_pb2.StoreImageHeader:
    first = await anext(aiter(requests), None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidArgument.field("header", "the first message must be the header")
    return first.header


async def _chunks(requests: AsyncIterator[images_pb2.StoreImageRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidArgument.field("chunk", "every message after the first must be a chunk")
        yield request.chunk


async def _drain(requests: AsyncIterator[images_pb2.StoreImageRequest]) -> None:
    """Read on for a short time after an error, so that the caller receives its status.

    A grpc.aio client that can no longer send its message may report INTERNAL "Internal error from Core" instead of the
    status that the server sent.
    """
    left = DRAIN_BYTES
    with contextlib.suppress(TimeoutError, RpcError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for request in requests:
                left -= len(request.chunk) or 1
                if left < 0:
                    return
