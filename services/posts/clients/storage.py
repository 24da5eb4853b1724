"""Storage, as plain calls: messages stop here."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import grpc
from frontispiece.storage.v1 import images_pb2, images_pb2_grpc

from rpc import errors
from rpc.channel import open_channel

CHUNK_BYTES = 256 * 1024
STORE_TIMEOUT_SECONDS = 30.0
CALL_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class StoredImage:
    """Where storage keeps an image, and what it found it to be."""

    key: str
    url: str
    is_in_s3: bool
    width: int
    height: int
    content_type: str
    size_bytes: int
    sha256: str
    thumbhash: str


class StorageClient:
    """The storage service. Every method raises the RpcError that the call ended with."""

    def __init__(self, target: str) -> None:
        """Connect to `target` when first needed."""
        self._channel = open_channel(target)
        self._stub: Any = images_pb2_grpc.ImageServiceStub(self._channel)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def check(self) -> None:
        """Ask whether it answers; what it says of its backend is its own business, as long as it takes images."""
        try:
            await self._stub.GetStatus(images_pb2.GetStatusRequest(), timeout=CALL_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error

    async def store(
        self, request_id: str, request_time: datetime, task_id: str, sha256: str, chunks: Sequence[bytes]
    ) -> StoredImage:
        """Store an image durably. The same request and bytes give the same key."""
        header = images_pb2.StoreImageHeader(
            request_id=request_id,
            task_id=task_id,
            size_bytes=sum(len(chunk) for chunk in chunks),
            sha256=sha256,
        )
        header.request_time.FromDatetime(request_time)

        async def parts() -> AsyncIterator[images_pb2.StoreImageRequest]:
            yield images_pb2.StoreImageRequest(header=header)
            for chunk in chunks:
                for start in range(0, len(chunk), CHUNK_BYTES):
                    yield images_pb2.StoreImageRequest(chunk=chunk[start : start + CHUNK_BYTES])

        try:
            answer = await self._stub.StoreImage(parts(), timeout=STORE_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error
        return _stored(answer.image)

    async def read(self, key: str) -> tuple[StoredImage, bytes]:
        """What is stored under `key`, and its bytes. Raises NotFound, InvalidArgument (not a key)."""
        call = self._stub.GetImage(images_pb2.GetImageRequest(key=key), timeout=STORE_TIMEOUT_SECONDS)
        stored: StoredImage | None = None
        data = bytearray()
        try:
            async for response in call:
                if response.WhichOneof("part") == "header":
                    stored = _stored(response.header.image)
                else:
                    data += response.chunk
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error
        finally:
            call.cancel()
        if stored is None:
            raise errors.Unavailable("storage did not say what it has", reason="STORAGE_ANSWER_INVALID")
        return stored, bytes(data)

    async def describe(self, key: str) -> StoredImage:
        """What is stored under `key`. Raises NotFound, InvalidArgument (not a key)."""
        request = images_pb2.GetImageRequest(key=key, header_only=True)
        call = self._stub.GetImage(request, timeout=CALL_TIMEOUT_SECONDS)
        try:
            async for response in call:
                if response.WhichOneof("part") == "header":
                    return _stored(response.header.image)
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error
        finally:
            call.cancel()
        raise errors.Unavailable("storage did not say what it has", reason="STORAGE_ANSWER_INVALID")

    async def keep(self, key: str) -> None:
        """Tell that a post shows this image, so that it never expires. Raises NotFound."""
        request = images_pb2.SetImageStateRequest(key=key, state=images_pb2.IMAGE_STATE_PUBLISHED)
        try:
            await self._stub.SetImageState(request, timeout=CALL_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error


def _stored(image: images_pb2.Image) -> StoredImage:
    return StoredImage(
        key=image.key,
        url=image.url,
        is_in_s3=image.backend == images_pb2.IMAGE_BACKEND_S3,
        width=image.width,
        height=image.height,
        content_type=image.content_type,
        size_bytes=image.size_bytes,
        sha256=image.sha256,
        thumbhash=image.thumbhash,
    )
