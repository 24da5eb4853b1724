"""What is derived from a text when it is written: HTML, excerpt and lexemes, made in a process of its own.

A text of 100,000 characters can keep Python busy for seconds, and in a thread it would stop the event loop for half a
second at a time. The process is started when it is first needed, has none of our environment variables, and gives up a
text after TIME_LIMIT_SECONDS of processor time.

    python -m services.posts.content.texts.deriving    reads and writes lines of JSON, until its input ends
"""

import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

from services.posts.content.search import words
from services.posts.content.texts import rendering

log = logging.getLogger(__name__)

VERSION = 1
"""To be raised when HTML, excerpts or lexemes of existing posts must be made again."""

TIME_LIMIT_SECONDS = 5
MEMORY_LIMIT_BYTES = 384 * 2**20
WRITE_WAIT_SECONDS = 3.0
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "VIRTUAL_ENV", "SYSTEMROOT")


@dataclass(frozen=True)
class Derived:
    """HTML, excerpt and lexemes of a title and a text. `version` 0: only the lexemes of the title are known yet."""

    html: str
    excerpt: str
    lexemes: list[str]
    version: int = VERSION

    @classmethod
    def later(cls, title: str, content: str) -> "Derived":
        """What is stored until the worker has made the rest."""
        return cls("", rendering.rough_excerpt(content), words.lexemes(title, ""), 0)


class Deriving:
    """The process, which makes one text after another."""

    def __init__(self, bases: Sequence[str]) -> None:
        """`bases`: the addresses of our media, now and earlier. They may be replaced."""
        self.bases = tuple(bases)
        self._process: subprocess.Popen[bytes] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def derive(self, title: str, content: str) -> Derived:
        """What follows from a title and a text that are being written; `Derived.later` if that takes too long."""
        return await self.try_derive(title, content, WRITE_WAIT_SECONDS) or Derived.later(title, content)

    async def try_derive(self, title: str, content: str, wait_seconds: float) -> Derived | None:
        """What follows from a title and a text; None if it is not there within `wait_seconds`."""
        request = {"title": title, "content": content, "bases": self.bases}
        try:
            async with asyncio.timeout(wait_seconds), self._one_at_a_time:
                try:
                    return await self._ask(request)
                except Exception as error:  # whatever happened to the process, another one may do
                    log.warning("the process that renders texts is replaced: %r", error)
                    return await self._ask(request)
        except TimeoutError:
            log.warning("a text is rendered later: it took longer than %g s", wait_seconds)
        except Exception:
            log.exception("a text is rendered later")
        return None

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(_ended, process)

    async def _ask(self, request: dict[str, Any]) -> Derived:
        line = json.dumps(request).encode() + b"\n"
        try:
            # Not by asyncio: uvloop forks, and in a fork the handlers of gRPC abort now and then. Popen uses vfork.
            answer = await asyncio.to_thread(_exchange, self._running(), line)
            return Derived(**json.loads(answer))  # no line, when the process has ended, is no JSON
        except BaseException:
            await asyncio.shield(self.close())  # the answer to this request must not be taken for the next one
            raise

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is not None:  # it has ended by itself
            _ended(self._process)
            self._process = None
        if self._process is None:
            environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
            self._process = subprocess.Popen(
                (sys.executable, "-m", "services.posts.content.texts.deriving"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))},
                start_new_session=True,  # an interrupt of the terminal is for the service
            )
        return self._process


def _exchange(process: "subprocess.Popen[bytes]", line: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    process.stdin.flush()
    return process.stdout.readline()


def _ended(process: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of a killed process, and close its pipes."""
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()


@contextlib.asynccontextmanager
async def running(bases: Sequence[str]) -> AsyncIterator[Deriving]:
    """A process for as long as the block lasts."""
    texts = Deriving(bases)
    try:
        yield texts
    finally:
        await texts.close()


class _Overdue(Exception):
    """The text has used its time."""


def derive(renderer: rendering.Renderer, title: str, content: str) -> Derived:
    """What follows from a title and a text, in at most TIME_LIMIT_SECONDS of this thread; plain HTML after that."""

    def overdue(_signal: int, _frame: FrameType | None) -> None:
        raise _Overdue

    lexemes = words.lexemes(title, content)
    signal.signal(signal.SIGVTALRM, overdue)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, TIME_LIMIT_SECONDS)
        html, excerpt = renderer.render(content)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except (_Overdue, RecursionError, MemoryError):
        html, excerpt = rendering.plain(content)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return Derived(html, excerpt, lexemes)


def main() -> None:
    """Answer requests until the input ends."""
    os.nice(5)  # after a new version all texts of the database are made again
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    renderer = rendering.Renderer(())
    bases: list[str] = []
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if request["bases"] != bases:
            bases = request["bases"]
            renderer = rendering.Renderer(bases)
        answer = derive(renderer, request["title"], request["content"])
        sys.stdout.buffer.write(json.dumps(asdict(answer)).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
