"""Calls to storage."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from frontispiece.storage.v1 import images_pb2, images_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp

from rpc import errors
from rpc.channel import open_channel

CHUNK_BYTES = 256 * 1024
STORE_TIMEOUT_SECONDS = 30.0
CALL_TIMEOUT_SECONDS = 5.0


class StorageClient:
    """The storage service. Every method raises the RpcError with which the call ended."""

    def __init__(self, target: str) -> None:
        """Connect to `target` at the first call."""
        self._channel = open_channel(target)
        self._stub: Any = images_pb2_grpc.ImageServiceStub(self._channel)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def check(self) -> None:
        """Raise if storage does not answer. Which backend it uses does not matter as long as it accepts images."""
        try:
            await self._stub.GetStatus(images_pb2.GetStatusRequest(), timeout=CALL_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error

    async def store(
        self, request_id: str, request_time: Timestamp, task_id: str, sha256: str, chunks: Sequence[bytes]
    ) -> images_pb2.Image:
        """Store an image durably. The same request and bytes give the same key."""
        header = images_pb2.StoreImageHeader(
            request_id=request_id,
            request_time=request_time,
            task_id=task_id,
            size_bytes=sum(len(chunk) for chunk in chunks),
            sha256=sha256,
            origin=images_pb2.IMAGE_ORIGIN_GENERATOR,
        )

        async def parts() -> AsyncIterator[images_pb2.StoreImageRequest]:
            yield images_pb2.StoreImageRequest(header=header)
            for chunk in chunks:
                for start in range(0, len(chunk), CHUNK_BYTES):
                    yield images_pb2.StoreImageRequest(chunk=chunk[start : start + CHUNK_BYTES])

        try:
            response = await self._stub.StoreImage(parts(), timeout=STORE_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error
        found: images_pb2.Image = response.image
        return found

    async def read(self, key: str) -> tuple[images_pb2.Image, bytes]:
        """The image with that key, and its bytes. Raises NotFound, InvalidArgument (not a key)."""
        return await self._get(images_pb2.GetImageRequest(key=key), STORE_TIMEOUT_SECONDS)

    async def describe(self, key: str) -> images_pb2.Image:
        """The image with that key. Raises NotFound, InvalidArgument (not a key)."""
        found, _ = await self._get(images_pb2.GetImageRequest(key=key, header_only=True), CALL_TIMEOUT_SECONDS)
        return found

    async def retain(self, key: str) -> None:
        """Keep the image permanently, because a post or a task uses it. Raises NotFound."""
        request = images_pb2.SetImageStateRequest(key=key, state=images_pb2.IMAGE_STATE_PUBLISHED)
        try:
            await self._stub.SetImageState(request, timeout=CALL_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error

    async def _get(self, request: images_pb2.GetImageRequest, timeout_seconds: float) -> tuple[images_pb2.Image, bytes]:
        call = self._stub.GetImage(request, timeout=timeout_seconds)
        found: images_pb2.Image | None = None
        data = bytearray()
        try:
            async for response in call:
                if response.WhichOneof("part") == "header":
                    found = response.header.image
                else:
                    data += response.chunk
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error
        finally:
            call.cancel()
        if found is None:
            raise errors.Unavailable("storage sent no header", reason="STORAGE_ANSWER_INVALID")
        return found, bytes(data)
