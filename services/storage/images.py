"""Storing, finding, reading and marking images."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime

from frontispiece.storage.v1.images_pb2 import ImageBackend, ImageOrigin, ImageState, StoreImageHeader

from rpc.errors import AlreadyExists, DeadlineExceeded, InvalidArgument, NotFound, OutOfRange, RpcError
from rpc.image_urls import ImageUrls
from services.storage.admission import Admission
from services.storage.backends.base import Backend
from services.storage.backends.local.files import translated
from services.storage.content import Content
from services.storage.imaging.decoder import Decoder
from services.storage.imaging.formats import ImageRefused
from services.storage.imaging.incoming import IncomingImage, ReceivedImage
from services.storage.keys import IMAGE_PREFIX, folder_of, image_key
from services.storage.metadata import object_metadata
from services.storage.models import ByteRange, ImageHandle, Redirect, StoredImage
from services.storage.readiness import Readiness

log = logging.getLogger(__name__)

STALLED_SECONDS = 15.0
MIN_BYTES_PER_SECOND = 4096
"""An upload that is slower than this for STALLED_SECONDS ends."""

REDIRECT_SECONDS = 900.0
"""How long a presigned URL works: long enough for a slow client to begin, too short to be stored."""


class Images:
    """Stores and finds images in one backend."""

    def __init__(
        self,
        backend: Backend,
        decoder: Decoder,
        admission: Admission,
        readiness: Readiness,
        urls: ImageUrls,
        upload_seconds: float,
    ) -> None:
        """`upload_seconds` is the time that the bytes of one upload may take to arrive."""
        self.backend = backend
        self._decoder = decoder
        self._admission = admission
        self._readiness = readiness
        self._urls = urls
        self._upload_seconds = upload_seconds

    async def store(self, header: StoreImageHeader, chunks: AsyncIterator[bytes]) -> StoredImage:
        """Store an image. When this returns, the image is on durable storage.

        Raises InvalidArgument, Unavailable, ResourceExhausted and DeadlineExceeded; nothing is stored then. Raises
        AlreadyExists if a request without a request_time comes with other bytes than before.
        """
        metadata = object_metadata(header)
        incoming = IncomingImage(header.size_bytes, header.sha256, self.backend.scratch, self._admission)
        try:
            async with incoming:
                stored = await self._store(header, metadata, await self._receive(incoming, chunks))
        except ImageRefused as error:
            raise InvalidArgument.field("chunk", str(error), reason=error.reason) from error
        except OSError as error:  # of the temporary files; backends translate their own
            log.warning("receiving failed", exc_info=error)
            raise translated(error, "receiving") from error
        log.info("image stored", extra={"key": stored.key, "bytes": stored.file.size_bytes})
        return stored

    async def _store(self, header: StoreImageHeader, metadata: dict[str, str], received: ReceivedImage) -> StoredImage:
        key = image_key(header, received.sha256, received.format.extension)
        if not header.HasField("request_time"):
            await self._check_other_bytes(key)
        processed = await self._decoder.process(received, reencode=header.origin == ImageOrigin.IMAGE_ORIGIN_UPLOAD)
        image = StoredImage(
            key=key,
            backend=self.backend.kind,
            file=processed.file,
            source_sha256=received.sha256,
            create_time=datetime.now(UTC),
            thumbhash=processed.thumbhash,
            metadata=metadata,
        )
        with processed.content:
            stored = await self._put(image, processed.content)
        if not header.HasField("request_time"):  # of two calls at once, the later check sees both images
            await self._check_other_bytes(key)
        return stored

    async def find(self, key: str, offset: int, limit: int, *, accept_redirect: bool) -> ImageHandle:
        """Find an image and resolve the range as in `byte_range`. Raises NotFound and OutOfRange."""
        image = await self.backend.stat(_image_key(key))
        wanted = byte_range(offset, limit, image.file.size_bytes)
        can_redirect = accept_redirect and image.backend == self.backend.kind
        return ImageHandle(image, wanted, await self._redirect(image) if can_redirect else None)

    def read(self, handle: ImageHandle) -> AsyncGenerator[bytes]:
        """The bytes of an image that was found."""
        return self.backend.read(handle.image.key, handle.range)

    async def set_state(self, key: str, state: ImageState) -> StoredImage:
        """Mark an image as draft or published. Raises NotFound."""
        return await self.backend.set_state(_image_key(key), state)

    def url_of(self, image: StoredImage) -> str:
        """The permanent URL of an image. The gateway serves an image that is not in the bucket."""
        return self._urls.url(image.key, in_bucket=self.is_in_bucket(image))

    def is_in_bucket(self, image: StoredImage) -> bool:
        """Whether an image is in S3: it does not wait in the spool, and no earlier configuration left it on a disk."""
        return image.backend == ImageBackend.IMAGE_BACKEND_S3

    async def _receive(self, incoming: IncomingImage, chunks: AsyncIterator[bytes]) -> ReceivedImage:
        """Raises DeadlineExceeded for bytes that come too slowly; only the time of waiting for them counts."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._upload_seconds
        patience = STALLED_SECONDS
        while True:
            begin = loop.time()
            try:
                async with asyncio.timeout_at(min(end, begin + patience)):
                    chunk = await anext(chunks, None)
            except TimeoutError as error:
                raise DeadlineExceeded(
                    f"the bytes came too slowly: the limits are {self._upload_seconds:g} s in all and "
                    f"{MIN_BYTES_PER_SECOND} bytes a second",
                    reason="UPLOAD_TOO_SLOW",
                ) from error
            if chunk is None:
                return await incoming.finish()
            patience += len(chunk) / MIN_BYTES_PER_SECOND - (loop.time() - begin)
            patience = min(patience, STALLED_SECONDS)
            await incoming.feed(chunk)

    async def _put(self, image: StoredImage, data: Content) -> StoredImage:
        try:
            return await self.backend.put(image, data)
        except RpcError as error:
            if error.retry_after_seconds is not None:  # the backend failed
                self._readiness.trigger_check()
            raise

    async def _check_other_bytes(self, key: str) -> None:
        if any(found != key for found in await self.backend.keys_in(folder_of(key))):
            raise AlreadyExists(
                "this request_id was used before with other bytes",
                reason="IDEMPOTENCY_MISMATCH",
                metadata={"field": "request_id"},
            )

    async def _redirect(self, image: StoredImage) -> Redirect | None:
        direct = await self.backend.direct_url(image.key, REDIRECT_SECONDS)
        if direct is None:
            return None
        cdn = self._urls.cdn(image.key)
        return Redirect(cdn) if cdn else Redirect(direct, REDIRECT_SECONDS)


def byte_range(offset: int, limit: int, size: int) -> ByteRange:
    """The range that a request means in an image of `size` bytes.

    A negative offset counts from the end; one before the start means the start. Limit 0 means up to the end, and a
    limit beyond the end is reduced. Raises OutOfRange for an offset at or beyond the end.
    """
    start = offset if offset >= 0 else max(0, size + offset)
    if start >= size:
        raise OutOfRange(f"the image has {size} bytes; offset {offset} is beyond its end", reason="RANGE_PAST_END")
    left = size - start
    return ByteRange(start, min(limit, left) if limit else left)


def _image_key(key: str) -> str:
    """`key`, if it is one of an image. Other objects in the bucket are never found."""
    if not key.startswith(IMAGE_PREFIX):
        raise NotFound(f"there is no image {key}", reason="IMAGE_NOT_FOUND")
    return key
