"""The life of an image: checked while it arrives, kept for good, found again."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from rpc.errors import AlreadyExists, DeadlineExceeded, NotFound, OutOfRange, RpcError
from services.storage.admission import Admission
from services.storage.backends.base import Backend
from services.storage.imaging.decoding import Decoder
from services.storage.imaging.validation import Inspection
from services.storage.keys import IMAGE_PREFIX, check_key, folder_of, image_key
from services.storage.metadata import object_metadata
from services.storage.models import ByteRange, ImageInfo, ImageState, Redirect, StoredImage, UploadHeader
from services.storage.readiness import Health
from services.storage.urls import Urls

log = logging.getLogger(__name__)

REDIRECT_SECONDS = 900.0
"""How long a presigned URL works: long enough for a slow download to begin, too short to be worth keeping."""


@dataclass(frozen=True)
class Reading:
    """What a reader gets: the image, and either a better place to fetch it or the range that was asked for."""

    image: StoredImage
    range: ByteRange
    redirect: Redirect | None = None


class Images:
    """Stores and finds images in one backend."""

    def __init__(
        self,
        backend: Backend,
        decoder: Decoder,
        admission: Admission,
        health: Health,
        urls: Urls,
        upload_seconds: float,
    ) -> None:
        """`upload_seconds`: how long the bytes of one upload may take to arrive."""
        self.backend = backend
        self._decoder = decoder
        self._admission = admission
        self._health = health
        self._urls = urls
        self._upload_seconds = upload_seconds

    async def store(self, header: UploadHeader, chunks: AsyncIterator[bytes]) -> StoredImage:
        """Take the bytes of an image and keep them; the answer means that they are durable.

        Raises InvalidArgument, Unavailable, ResourceExhausted, DeadlineExceeded; then nothing is kept. Raises
        AlreadyExists when a request without a time comes with other bytes than before.
        """
        with self._admission.hold(header.size_bytes):
            data, sha256, info = await self._receive(header, chunks)
            key = image_key(header.request_id, header.request_time, sha256, info.content_type)
            if header.request_time is None:
                await self._check_alone(key)
            looks = await self._decoder.look(data, info)
            image = StoredImage(
                key=key,
                backend=self.backend.kind,
                content_type=info.content_type,
                width=looks.width,
                height=looks.height,
                size_bytes=len(data),
                sha256=sha256,
                create_time=datetime.now(UTC),
                thumbhash=looks.thumbhash,
                metadata=object_metadata(header),
            )
            try:
                stored = await self.backend.put(image, data)
            except RpcError as error:
                if error.retry_after_seconds is not None:  # the backend's fault, not the caller's
                    self._health.suspect()
                raise
            if header.request_time is None:  # two may have come at once: whoever looks last sees both
                await self._check_alone(key)
        log.info("image stored", extra={"key": stored.key, "bytes": stored.size_bytes, "backend": stored.backend.value})
        return stored

    async def find(self, key: str, offset: int, limit: int, *, accept_redirect: bool) -> Reading:
        """Find an image and the wanted part of it: see `byte_range`. Raises NotFound, OutOfRange, InvalidArgument."""
        image = await self.backend.stat(_image_key(key))
        wanted = byte_range(offset, limit, image.size_bytes)
        elsewhere = image.backend is self.backend.kind
        redirect = await self._redirect(image) if accept_redirect and elsewhere else None
        return Reading(image, wanted, redirect)

    def read(self, reading: Reading) -> AsyncIterator[bytes]:
        """The bytes of what was found."""
        return self.backend.read(reading.image.key, reading.range)

    async def set_state(self, key: str, state: ImageState) -> StoredImage:
        """Mark an image. Raises NotFound, InvalidArgument."""
        return await self.backend.set_state(_image_key(key), state)

    async def url(self, key: str) -> str:
        """The lasting URL of a key, whether it exists or not. Raises InvalidArgument for a bad one."""
        if await self.backend.holds_locally(check_key(key)):
            return self._urls.media(key)
        return self._urls.lasting(key)

    def url_of(self, image: StoredImage) -> str:
        """The lasting URL of an image. One that is not in the backend yet has the gateway's, which will redirect."""
        return self._urls.lasting(image.key) if image.backend is self.backend.kind else self._urls.media(image.key)

    async def _receive(self, header: UploadHeader, chunks: AsyncIterator[bytes]) -> tuple[bytes, str, ImageInfo]:
        inspection = Inspection(header.size_bytes, header.sha256)
        try:
            async with asyncio.timeout(self._upload_seconds):
                async for chunk in chunks:
                    inspection.feed(chunk)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the bytes did not arrive within {self._upload_seconds:g} s", reason="UPLOAD_TOO_SLOW"
            ) from error
        return inspection.finish()

    async def _check_alone(self, key: str) -> None:
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

    A negative offset counts from the end, and from the start when it reaches before that; limit 0 means up to the end;
    a limit that reaches past the end is cut. Raises OutOfRange for an offset at or past the end.
    """
    start = offset if offset >= 0 else max(0, size + offset)
    if start >= size:
        raise OutOfRange(f"the image has {size} bytes; offset {offset} is past its end", reason="RANGE_PAST_END")
    left = size - start
    return ByteRange(start, min(limit, left) if limit else left)


def _image_key(key: str) -> str:
    """A key that may be an image's. What else may live in the bucket is not found, whoever asks."""
    if not check_key(key).startswith(IMAGE_PREFIX):
        raise NotFound(f"there is no image {key}", reason="IMAGE_NOT_FOUND")
    return key
