"""How long the event loop is blocked: the CPU time of its longest callback, whatever else the machine does.

Use it as

    with watching() as watch:
        await fetch(front, "/api/posts")
    assert watch.longest < LIMIT_SECONDS, watch

CPU time of the loop's thread, not time on the clock, so that a busy machine does not fail the test. What runs in other
threads (`asyncio.to_thread`, compression) does not count. Clients belong in another thread, as `fetch` does it: their
work is not the gateway's. The garbage collector is off meanwhile, because a collection visits all that pytest has
imported. Only asyncio's own loop can be watched, which is the one of pytest.
"""

import asyncio
import contextlib
import gc
import http.client
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.gateway.scripted import Scripted

LIMIT_SECONDS = 0.05
"""The longest that a request may block the loop."""


@dataclass
class LoopWatch:
    """The callbacks of the loop: the longest one, and all that took more than a tenth of the limit."""

    longest: float = 0.0
    slow: list[tuple[float, str]] = field(default_factory=list)

    def __str__(self) -> str:
        """The slowest callbacks, in milliseconds."""
        worst = sorted(self.slow, reverse=True)[:5]
        return "; ".join(f"{seconds * 1e3:.1f} ms: {name}" for seconds, name in worst) or "nothing blocked the loop"


@contextlib.contextmanager
def watching() -> Iterator[LoopWatch]:
    """Watch every callback of the running loop until the block ends."""
    watch = LoopWatch()
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        seconds = time.thread_time() - began
        watch.longest = max(watch.longest, seconds)
        if seconds > LIMIT_SECONDS / 10:
            watch.slow.append((seconds, repr(handle)[:300]))

    collecting = gc.isenabled()
    gc.disable()
    asyncio.Handle._run = timed  # type: ignore[method-assign]
    try:
        yield watch
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]
        if collecting:
            gc.enable()


@dataclass(frozen=True)
class Answer:
    """A response. The names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def fetch(front: Scripted, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    """The answer to one request, sent from another thread."""
    return await asyncio.to_thread(_fetch, front.base_url, path, method, body, headers)


def _fetch(base_url: str, path: str, method: str, body: bytes | None, headers: Mapping[str, Any]) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
