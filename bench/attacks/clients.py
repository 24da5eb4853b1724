"""Clients that behave badly, and one that behaves well: raw sockets to 127.0.0.1, bounded in number and time."""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

GET = b"GET %s HTTP/1.1\r\nhost: attack\r\n%s\r\n"


def request(path: str, headers: str = "") -> bytes:
    """A GET request. `headers`: whole lines."""
    return GET % (path.encode(), headers.encode())


@dataclass
class Sockets:
    """Many connections to one port."""

    port: int
    receive_bytes: int = 0
    """SO_RCVBUF; 0: what the system chooses."""
    open: list[socket.socket] = field(default_factory=list)
    refused: int = 0

    async def connect(self, number: int, *pieces: bytes) -> None:
        """Open `number` connections, and send each piece on all of them after an answer to the one before."""
        for _ in range(number):
            client = socket.socket()
            if self.receive_bytes:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_bytes)
            try:
                client.connect(("127.0.0.1", self.port))
                client.setblocking(False)
                client.send(pieces[0])
            except OSError:
                self.refused += 1
                client.close()
            else:
                self.open.append(client)
            if len(self.open) % 50 == 0:
                await asyncio.sleep(0.01)
        for piece in pieces[1:]:
            await asyncio.sleep(1)
            self.take(4096)
            for client in self.open:
                with contextlib.suppress(OSError):
                    client.send(piece)

    def take(self, size: int) -> int:
        """Read at most `size` bytes from each, forget those that are closed, and count what came."""
        got = 0
        for client in list(self.open):
            try:
                data = client.recv(size)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            got += len(data)
            if not data:
                client.close()
                self.open.remove(client)
        return got

    async def until_closed(self, seconds: float, size: int = 4096, pause: float = 1.0) -> float:
        """Take `size` bytes each `pause` seconds until all are closed, at most `seconds`; how long it took."""
        began = time.monotonic()
        while self.open and time.monotonic() - began < seconds:
            await asyncio.sleep(pause)
            self.take(size)
        return time.monotonic() - began

    def close(self) -> None:
        """Close all."""
        for client in self.open:
            client.close()
        self.open.clear()


@dataclass
class Others:
    """What readers who mean no harm get meanwhile."""

    statuses: Counter[str] = field(default_factory=Counter)
    worst: float = 0.0

    def __str__(self) -> str:
        """The statuses and the longest time of an answer."""
        counted = ", ".join(f"{number} × {status}" for status, number in sorted(self.statuses.items()))
        return f"{counted or 'none asked'}; worst {self.worst:.2f} s"


@contextlib.asynccontextmanager
async def others(
    port: int, paths: Iterable[str] = ("/healthz", "/api/posts", "/"), pause: float = 0.25
) -> AsyncIterator[Others]:
    """Ask for each path in turn, on a connection of its own each time, until the block ends."""
    seen = Others()

    async def ask() -> None:
        while True:
            for path in paths:
                began = time.monotonic()
                try:
                    async with asyncio.timeout(30):
                        status = await _status(port, path)
                    seen.statuses[status if status == "200" else f"{status} ({path[:12]})"] += 1
                except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                    seen.statuses[type(error).__name__] += 1
                seen.worst = max(seen.worst, time.monotonic() - began)
                await asyncio.sleep(pause)

    task = asyncio.create_task(ask())
    try:
        yield seen
    finally:
        task.cancel()


async def _status(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request(path, "connection: close\r\n"))
        line = await reader.readuntil(b"\r\n")
        await reader.read()
        return line.split()[1].decode()
    finally:
        writer.close()
