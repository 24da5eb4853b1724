"""Threads that decode images, with a limit on the memory that they use at once."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from frontispiece.types.v1.image_pb2 import ImageFile

from services.storage.imaging.appearance import describe
from services.storage.imaging.decoding import memory_needed
from services.storage.imaging.incoming import ReceivedImage
from services.storage.imaging.reencoding import reencode as encode_again

ProcessedImage = tuple[bytes, ImageFile, str]
"""The bytes to store, their description, and the ThumbHash in base64."""


class Decoder:
    """Decodes images in a few threads. A thread waits while the others use all of the memory."""

    def __init__(self, threads: int, memory_bytes: int, max_stored_bytes: int) -> None:
        """`memory_bytes` is the limit for all threads together, `max_stored_bytes` the largest image to store."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._free_bytes = memory_bytes
        self._freed = threading.Condition()
        self._max_stored_bytes = max_stored_bytes

    async def process(self, received: ReceivedImage, *, reencode: bool) -> ProcessedImage:
        """Check an image, and encode it again on request. Raises InvalidArgument if it does not decode."""
        run = self._reencoded if reencode else self._unchanged
        return await asyncio.get_running_loop().run_in_executor(self._threads, run, received)

    async def close(self) -> None:
        """End the threads."""
        await asyncio.to_thread(self._threads.shutdown)

    def _unchanged(self, received: ReceivedImage) -> ProcessedImage:
        with self._memory(received):
            width, height, thumbhash = describe(received.data, received.format)
        return received.data, _file(received, received.data, received.sha256, width, height), thumbhash

    def _reencoded(self, received: ReceivedImage) -> ProcessedImage:
        with self._memory(received):
            data, width, height, thumbhash = encode_again(received.data, received.format, self._max_stored_bytes)
        return data, _file(received, data, hashlib.sha256(data).hexdigest(), width, height), thumbhash

    @contextmanager
    def _memory(self, received: ReceivedImage) -> Iterator[None]:
        """Hold the memory that decoding needs for the length of the block, and wait for it first."""
        needed = memory_needed(received.data, received.format)
        with self._freed:
            self._freed.wait_for(lambda: self._free_bytes >= needed)
            self._free_bytes -= needed
        try:
            yield
        finally:
            with self._freed:
                self._free_bytes += needed
                self._freed.notify_all()


def _file(received: ReceivedImage, data: bytes, sha256: str, width: int, height: int) -> ImageFile:
    return ImageFile(
        content_type=received.format.content_type, size_bytes=len(data), sha256=sha256, width=width, height=height
    )
