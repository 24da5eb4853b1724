"""storage.v1.ImageService: messages to models and back."""

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any

import grpc
from frontispiece.storage.v1 import images_pb2, images_pb2_grpc

from rpc.errors import FieldViolation, InvalidArgument, RpcError
from services.storage.images import Images, Reading
from services.storage.imaging.formats.base import MAX_IMAGE_BYTES
from services.storage.imaging.validation import check_size
from services.storage.metadata import check_metadata
from services.storage.models import BackendKind, ImageState, StoredImage, UploadHeader
from services.storage.readiness import Health
from services.storage.urls import Urls

SERVICE_NAME = images_pb2.DESCRIPTOR.services_by_name["ImageService"].full_name

MAX_CHUNK_BYTES = 1024 * 1024
SEND_CHUNK_BYTES = 256 * 1024
MAX_KEYS = 100

DRAIN_BYTES = MAX_IMAGE_BYTES
DRAIN_SECONDS = 2.0

_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_BACKENDS = {
    BackendKind.LOCAL: images_pb2.IMAGE_BACKEND_LOCAL,
    BackendKind.S3: images_pb2.IMAGE_BACKEND_S3,
    BackendKind.SPOOL: images_pb2.IMAGE_BACKEND_SPOOL,
}
_STATES = {
    ImageState.DRAFT: images_pb2.IMAGE_STATE_DRAFT,
    ImageState.PUBLISHED: images_pb2.IMAGE_STATE_PUBLISHED,
}
_STATES_BACK = {value: state for state, value in _STATES.items()}

Context = grpc.aio.ServicerContext[Any, Any]


class ImageServicer(images_pb2_grpc.ImageServiceServicer):
    """The edge of the storage process."""

    def __init__(self, images: Images, urls: Urls, health: Health, bucket: str) -> None:
        """`bucket`: its name, or empty for local storage."""
        self._images = images
        self._urls = urls
        self._health = health
        self._bucket = bucket

    async def StoreImage(
        self, request_iterator: AsyncIterator[images_pb2.StoreImageRequest], context: Context
    ) -> images_pb2.StoreImageResponse:
        """Store one image."""
        try:
            stored = await self._images.store(await _first(request_iterator), _chunks(request_iterator))
        except RpcError:
            await _drain(request_iterator)
            raise
        return images_pb2.StoreImageResponse(image=self._image(stored))

    async def GetImage(
        self, request: images_pb2.GetImageRequest, context: Context
    ) -> AsyncIterator[images_pb2.GetImageResponse]:
        """Send an image, or say where it is."""
        reading = await self._images.find(
            request.key, request.offset, request.limit, accept_redirect=request.accept_redirect
        )
        yield images_pb2.GetImageResponse(header=self._reading(reading))
        if request.header_only or reading.redirect:
            return
        async for piece in self._images.read(reading):
            for start in range(0, len(piece), SEND_CHUNK_BYTES):
                yield images_pb2.GetImageResponse(chunk=piece[start : start + SEND_CHUNK_BYTES])

    async def SetImageState(
        self, request: images_pb2.SetImageStateRequest, context: Context
    ) -> images_pb2.SetImageStateResponse:
        """Mark an image."""
        state = _STATES_BACK.get(request.state)
        if state is None:
            raise InvalidArgument.field("state", "must be DRAFT or PUBLISHED")
        return images_pb2.SetImageStateResponse(image=self._image(await self._images.set_state(request.key, state)))

    async def ResolveUrls(
        self, request: images_pb2.ResolveUrlsRequest, context: Context
    ) -> images_pb2.ResolveUrlsResponse:
        """Tell URLs."""
        if len(request.keys) > MAX_KEYS:
            raise InvalidArgument.field("keys", f"has {len(request.keys)} keys; at most {MAX_KEYS}")
        urls = [images_pb2.ResolvedUrl(key=key, url=await self._images.url(key)) for key in request.keys]
        return images_pb2.ResolveUrlsResponse(urls=urls)

    async def GetStatus(self, request: images_pb2.GetStatusRequest, context: Context) -> images_pb2.GetStatusResponse:
        """Tell the condition as last seen."""
        condition = self._health.condition
        waiting = self._images.backend.waiting()
        return images_pb2.GetStatusResponse(
            backend=_BACKENDS[self._images.backend.kind],
            healthy=condition.healthy,
            reason=condition.reason,
            bucket=self._bucket,
            base_url=self._urls.base_url,
            spool_count=waiting.count,
            spool_bytes=waiting.size_bytes,
        )

    def _reading(self, reading: Reading) -> images_pb2.GetImageHeader:
        header = images_pb2.GetImageHeader(
            image=self._image(reading.image), range_start=reading.range.start, range_size=reading.range.size
        )
        if reading.redirect:
            header.redirect_url = reading.redirect.url
            if reading.redirect.ttl_seconds is not None:
                header.redirect_ttl.FromNanoseconds(int(reading.redirect.ttl_seconds * 1e9))
        return header

    def _image(self, image: StoredImage) -> images_pb2.Image:
        message = images_pb2.Image(
            key=image.key,
            url=self._images.url_of(image),
            backend=_BACKENDS[image.backend],
            width=image.width,
            height=image.height,
            content_type=image.content_type,
            size_bytes=image.size_bytes,
            sha256=image.sha256,
            thumbhash=image.thumbhash,
            state=_STATES[image.state],
        )
        message.create_time.FromDatetime(image.create_time)
        return message


async def _first(requests: AsyncIterator[images_pb2.StoreImageRequest]) -> UploadHeader:
    first = await anext(aiter(requests), None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidArgument.field("header", "the first message must be the header")
    return _upload_header(first.header)


async def _drain(requests: AsyncIterator[images_pb2.StoreImageRequest]) -> None:
    """Read on for a little after a refusal, so that the caller learns of it.

    A grpc.aio client whose message cannot be sent any more may report INTERNAL "Internal error from Core" in place of
    the status that the server sent.
    """
    left = DRAIN_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for request in requests:
                left -= len(request.chunk) or 1
                if left < 0:
                    return


async def _chunks(requests: AsyncIterator[images_pb2.StoreImageRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidArgument.field("chunk", "every message after the first must be a chunk")
        chunk = request.chunk  # each look at the field copies it
        if len(chunk) > MAX_CHUNK_BYTES:
            raise InvalidArgument.field("chunk", f"has {len(chunk)} bytes; at most {MAX_CHUNK_BYTES}")
        yield chunk


def _upload_header(header: images_pb2.StoreImageHeader) -> UploadHeader:
    """The header, each field checked."""
    check_size(header.size_bytes)
    violations = []
    if not _REQUEST_ID.fullmatch(header.request_id):
        violations.append(FieldViolation("header.request_id", "must be 1 to 64 of A-Z, a-z, 0-9 and hyphen"))
    has_time = header.HasField("request_time")
    if has_time and header.request_time.seconds < 1:
        violations.append(FieldViolation("header.request_time", "must be after 1970"))
    if header.task_id and not _is_uuid(header.task_id):
        violations.append(FieldViolation("header.task_id", "must be a UUID"))
    if header.sha256 and not _SHA256.fullmatch(header.sha256):
        violations.append(FieldViolation("header.sha256", "must be 64 lower-case hexadecimal digits"))
    if violations:
        raise InvalidArgument.fields(violations)
    metadata = dict(header.metadata)
    check_metadata(metadata)
    try:
        request_time = header.request_time.ToDatetime(tzinfo=UTC) if has_time else None
    except (ValueError, OverflowError) as error:
        raise InvalidArgument.field("header.request_time", "is not a time") from error
    return UploadHeader(
        request_id=header.request_id,
        request_time=request_time,
        size_bytes=header.size_bytes,
        task_id=header.task_id,
        sha256=header.sha256,
        metadata=metadata,
    )


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
