"""Temporary files in which uploads are collected, and a limit for all of them.

A client that sends slowly, or sends a form, or does not say how much it sends, costs a file and nothing of storage.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import IO

from starlette.concurrency import run_in_threadpool

from rpc import errors

_ENTRY_BYTES = 512 * 1024
"""What an upload counts before its first byte, for its open file and its buffers."""
_PIECE_BYTES = 256 * 1024
_SENDING = 4
_RETRY_SECONDS = 2.0


class Share:
    """What one upload takes of the spool."""

    def __init__(self, spool: "Spool") -> None:
        """Take nothing yet."""
        self._spool = spool
        self._size = 0
        self._taken = 0

    def add(self, size: int) -> None:
        """Count `size` further bytes. Raises Unavailable when the spool is full."""
        self._size += size
        self._take(max(_ENTRY_BYTES, self._size))

    def _take(self, total: int) -> None:
        more = total - self._taken
        if self._spool.used + more > self._spool.limit_bytes:
            raise errors.Unavailable(
                "too many uploads are in progress", reason="UPLOADS_BUSY", retry_after_seconds=_RETRY_SECONDS
            )
        self._spool.used += more
        self._taken = total

    def release(self) -> None:
        """Give all back."""
        self._spool.used -= self._taken
        self._taken = 0


class Spool:
    """Limits the bytes of all temporary files. For one event loop only: it has no lock."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes`: the most that the files may hold together."""
        self.limit_bytes = limit_bytes
        self.used = 0
        self.sending = asyncio.Semaphore(_SENDING)
        """To be held while a file is sent: gRPC takes a file as fast as it is read and keeps what is not sent yet."""

    @contextmanager
    def share(self) -> Iterator[Share]:
        """The share of an upload, for the length of the block. Raises Unavailable when the spool is full."""
        share = Share(self)
        share.add(0)
        try:
            yield share
        finally:
            share.release()


async def collect(pieces: AsyncIterator[bytes], file: IO[bytes]) -> int:
    """Write all pieces into `file` and return to its start. Returns the number of bytes."""
    size = 0
    async for piece in pieces:
        await run_in_threadpool(file.write, piece)
        size += len(piece)
    await run_in_threadpool(file.seek, 0)
    return size


async def pieces_of(file: IO[bytes]) -> AsyncIterator[bytes]:
    """The rest of a file, in pieces."""
    while piece := await run_in_threadpool(file.read, _PIECE_BYTES):
        yield piece


def temporary_file() -> IO[bytes]:
    """A file without a name, in the folder for temporary files (TMPDIR)."""
    return tempfile.TemporaryFile()
