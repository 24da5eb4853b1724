"""`python -m bench.reading.client HOST:PORT PATH CONNECTIONS SECONDS`: requests in turn on each of some connections.

Prints the number of responses, of bytes, and of failures (status other than 200) as JSON. It parses only status and
Content-Length, so that it takes little of the processor that it shares with the server.
"""

import asyncio
import json
import re
import sys
import time

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """One connection with one request at a time until a deadline."""

    def __init__(self, request: bytes, deadline: float) -> None:
        """Send `request` again and again until `deadline`, in seconds of time.perf_counter()."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.responses = self.size = self.failures = 0
        self._request = request
        self._deadline = deadline
        self._buffer = bytearray()
        self._expected = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Send the first request."""
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count the response when it is complete, and send the next request."""
        self._buffer += data
        if not self._expected:
            end = self._buffer.find(_HEAD_END)
            if end < 0:
                return
            head = bytes(self._buffer[:end])
            length = _LENGTH.search(head)
            self.failures += head[9:12] != b"200" or length is None
            self._expected = end + len(_HEAD_END) + (int(length[1]) if length else 0)
        if len(self._buffer) < self._expected:
            return
        self.responses += 1
        self.size += self._expected
        self._buffer.clear()
        self._expected = 0
        if time.perf_counter() < self._deadline:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Report the end."""
        self.failures += error is not None
        if not self.done.done():
            self.done.set_result(None)


async def run(address: str, path: str, connections: int, seconds: float) -> dict[str, float]:
    """The counts of all connections, and the seconds from the first request to the last response."""
    host, _, port = address.rpartition(":")
    request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    opened = [
        (await loop.create_connection(lambda: Connection(request, began + seconds), host, int(port)))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(one.done for one in opened))
    return {
        "responses": sum(one.responses for one in opened),
        "bytes": sum(one.size for one in opened),
        "failures": sum(one.failures for one in opened),
        "seconds": time.perf_counter() - began,
    }


if __name__ == "__main__":
    import uvloop

    target, wanted, count, duration = sys.argv[1:]
    print(json.dumps(uvloop.run(run(target, wanted, int(count), float(duration)))))
