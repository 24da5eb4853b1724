"""A TCP proxy in front of a server that produces network faults."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from urllib.parse import urlsplit


class Fault(Enum):
    NONE = "everything is forwarded"
    SILENT = "connections are accepted, nothing is sent"
    RESET = "connections are accepted and reset"
    BUSY = "every request gets a 503 response"
    CUT = "the first responses end in the middle"


class FaultyProxy:
    """Forwards bytes to `target` (an http address). `behave` selects a fault and ends all connections."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self.fault = Fault.NONE
        self.cuts_left = 0
        self.cut_after_bytes = 0
        self.endpoint_url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def behave(self, fault: Fault, *, cuts: int = 0, cut_after_bytes: int = 0) -> None:
        """Select a fault. CUT ends the first `cuts` responses after `cut_after_bytes` bytes."""
        self.fault, self.cuts_left, self.cut_after_bytes = fault, cuts, cut_after_bytes
        await self._end_connections()

    async def _end_connections(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FaultyProxy"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.endpoint_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await self._end_connections()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # this task is not awaited, and asyncio would log its cancellation as an error
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault is Fault.SILENT:
            while await reader.read(65536):
                pass
        elif self.fault is Fault.RESET:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif self.fault is Fault.BUSY:
            await self._respond_busy(reader, writer)
        else:
            await self._forward(reader, writer)

    async def _respond_busy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        await writer.drain()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        below_reader, below_writer = await asyncio.open_connection(*self._target)
        try:
            forward = asyncio.create_task(_copy(reader, below_writer))
            try:
                await self._copy_back(below_reader, writer)
            finally:
                forward.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await forward
        finally:
            below_writer.close()

    async def _copy_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = 0
        while piece := await reader.read(16384):
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            if self.fault is Fault.CUT and self.cuts_left and sent > self.cut_after_bytes:
                self.cuts_left -= 1
                return


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
