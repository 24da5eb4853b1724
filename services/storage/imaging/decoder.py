"""Images are decoded in processes of their own, with a limit on the memory that they use at once."""

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from frontispiece.types.v1.image_pb2 import ImageFile

from services.storage.content import Content
from services.storage.imaging import sandbox
from services.storage.imaging.budget import Budget
from services.storage.imaging.formats import ImageRefused
from services.storage.imaging.incoming import ReceivedImage
from services.storage.imaging.sandbox import Job, Result

log = logging.getLogger(__name__)

_CODE = Path(__file__).parents[3]
_ENDED = "the image cannot be decoded within the limits of time and memory"
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # no keys, no addresses


@dataclass(frozen=True)
class ProcessedImage:
    """The bytes to store, their description, and the ThumbHash in base64."""

    content: Content
    file: ImageFile
    thumbhash: str


class Decoder:
    """Decodes images, each in a process that is forked for it. An image waits while others use all of the memory.

    Images of the generator do not wait behind uploads: they are served first and have a process more.
    """

    def __init__(self, processes: int, memory_bytes: int, max_stored_bytes: int, scratch: Path) -> None:
        """`memory_bytes` is the limit for all processes together, `max_stored_bytes` the largest image to store.

        `scratch` is a folder for temporary files.
        """
        self._count = processes + 1
        self._processes = Budget(self._count)
        self._uploads = Budget(processes)
        self._memory = Budget(memory_bytes)
        self._memory_bytes = memory_bytes
        self._max_stored_bytes = max_stored_bytes
        self._scratch = scratch
        self._sandbox: _Sandbox | None = None
        self._running: set[asyncio.Task[Result]] = set()

    def start(self) -> None:
        """Start the sandbox without waiting for it; otherwise the first image starts it."""
        self._sandbox = _Sandbox(self._count)

    async def process(self, received: ReceivedImage, *, reencode: bool) -> ProcessedImage:
        """Check an image, and encode it again on request. Raises ImageRefused, and OSError if no file can be made.

        The caller closes the content, which for an unchanged image is that of `received`.
        """
        name = received.format.pillow
        job = Job(name, reencode, self._max_stored_bytes, self._memory_bytes)
        output = await asyncio.to_thread(_temporary, self._scratch) if reencode else received.content.copy()
        try:
            result = await self._run(job, received.content, output)
            if result.problem:
                raise ImageRefused(result.problem, result.reason)
        except BaseException:
            output.close()
            raise
        file = ImageFile(
            content_type=received.format.content_type,
            size_bytes=result.size_bytes if reencode else received.content.size,
            sha256=result.sha256 if reencode else received.sha256,
            width=result.width,
            height=result.height,
        )
        return ProcessedImage(output, file, result.thumbhash)

    async def close(self) -> None:
        """End the sandbox. Images in progress are waited for."""
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._sandbox is not None:
            await asyncio.to_thread(self._sandbox.close)

    async def _run(self, job: Job, source: Content, output: Content) -> Result:
        """The result of a job. It is finished even if the caller is cancelled: its process goes on using memory."""
        task = asyncio.create_task(self._in_turn(job, source.copy(), output.copy()))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _in_turn(self, job: Job, source: Content, output: Content) -> Result:
        async with AsyncExitStack() as stack:
            for view in (source, output):
                stack.enter_context(view)
            if job.reencode:
                await stack.enter_async_context(self._uploads.held(1))
            await stack.enter_async_context(self._processes.held(1, urgent=not job.reencode))
            connection = stack.enter_context(self._submit(job, source, output))
            return await self._result(job, connection)

    async def _result(self, job: Job, connection: socket.socket) -> Result:
        loop = asyncio.get_running_loop()
        answer = await _received(connection)
        if len(answer) != sandbox.NEEDED_BYTES:  # refused, or ended
            return _parsed(answer)
        needed = int.from_bytes(answer, "big")
        async with self._memory.held(needed, urgent=not job.reencode):
            with suppress(OSError):  # the process has ended
                await loop.sock_sendall(connection, sandbox.GO)
            return _parsed(await _received(connection))

    def _submit(self, job: Job, source: Content, output: Content) -> socket.socket:
        """Send a job to the sandbox, which is started again if it has ended. Returns the connection to its process."""
        for _ in range(2):
            if self._sandbox is None:
                self._sandbox = _Sandbox(self._count)
            with suppress(OSError):
                return self._sandbox.submit(job, source, output)
            log.error("the process that decodes images has ended, it is started again")
            self._sandbox.close()
            self._sandbox = None
        raise OSError("images cannot be decoded: the process for it does not start")


class _Sandbox:
    """The process of services.storage.imaging.sandbox."""

    def __init__(self, processes: int) -> None:
        self._connection, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", sandbox.__name__, str(other.fileno()), str(processes)],
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=_CODE,
                env={name: value for name, value in os.environ.items() if name in _ENVIRONMENT or "MALLOC" in name},
            )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def submit(self, job: Job, source: Content, output: Content) -> socket.socket:
        """Send a job. Returns the connection to the process of the image. Raises OSError if the sandbox has ended."""
        if self._process.poll() is not None:
            raise OSError("the sandbox has ended")
        ours, theirs = socket.socketpair()
        with theirs:
            files = [source.fileno(), output.fileno(), theirs.fileno()]
            try:
                socket.send_fds(self._connection, [job.to_bytes()], files, socket.MSG_NOSIGNAL)
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        return ours

    def close(self) -> None:
        """End the process. Those that it has forked go on to their end."""
        self._connection.close()
        self._process.kill()
        self._process.wait()


def _temporary(scratch: Path) -> Content:
    with tempfile.TemporaryFile(dir=scratch) as file:
        return Content(file.fileno())


async def _received(connection: socket.socket) -> bytes:
    """One message; empty if the process has ended."""
    try:
        return await asyncio.get_running_loop().sock_recv(connection, 65536)
    except OSError:
        return b""


def _parsed(message: bytes) -> Result:
    return Result(**json.loads(message)) if message else Result(problem=_ENDED, reason="IMAGE_INVALID")
