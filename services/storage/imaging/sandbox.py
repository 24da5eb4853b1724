"""`python -m services.storage.imaging.sandbox FD N`: decodes images, each in a process of its own with limits.

storage ──job, files──► one of N processes ──► result; it ends, and the sandbox forks the next
                        limits of memory and CPU time, no secrets

The sandbox has imported Pillow and nothing of gRPC, so its processes are small, and they are forked before they are
needed. The kernel ends a process that exceeds its limits or that the decoder crashes. Its connection then ends without
a result, and storage refuses the image.
"""

import gc
import hashlib
import io
import json
import os
import resource
import signal
import socket
import sys
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from PIL import Image

from services.storage.imaging.appearance import describe
from services.storage.imaging.decoding import memory_needed
from services.storage.imaging.formats import FORMATS, INVALID, TOO_LARGE, ImageRefused
from services.storage.imaging.reencoding import reencode

JOB_BYTES = 256
"""The size of a job on its socket. Fixed, so that two jobs are never read as one."""

NEEDED_BYTES = 8
"""The first answer of a process: how much memory it needs, as a number of so many bytes. It waits for GO."""

GO = b"g"
HEADER_CPU_SECONDS = 5
CPU_SECONDS = 15
CPU_SECONDS_PER_MEGAPIXEL = 1.0
_CLOSED = 3  # exit code
_PIXEL_BYTES = 10
_WALL_FACTOR = 6.0
_HEADER_MEMORY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Job:
    """What to do with one image. `image_format` is the name in Pillow. `max_bytes` limits the result of `reencode`."""

    image_format: str
    reencode: bool
    max_bytes: int
    memory_bytes: int

    def to_bytes(self) -> bytes:
        """JOB_BYTES bytes."""
        return json.dumps(asdict(self)).encode().ljust(JOB_BYTES)


@dataclass(frozen=True)
class Result:
    """What was found, or why the image is refused (`problem`, `reason`). Size and SHA-256 are those of the new file."""

    width: int = 0
    height: int = 0
    thumbhash: str = ""
    size_bytes: int = 0
    sha256: str = ""
    problem: str = ""
    reason: str = ""


def main(connection: socket.socket, processes: int) -> None:
    """Keep so many processes until the other end is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # uploads in progress are finished; storage ends this process
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # of Pillow about the images
    _warm_up()
    gc.collect()
    gc.freeze()
    gc.disable()
    code = 0
    while code != _CLOSED:
        processes -= 1
        if os.fork() == 0:
            _one_image(connection)
        if processes <= 0:
            code = os.waitstatus_to_exitcode(os.wait()[1])


def _warm_up() -> None:
    """Decode and encode once, so that the processes share what that imports and allocates."""
    for image_format in FORMATS.values():
        source, output = io.BytesIO(), io.BytesIO()
        Image.new("RGB", (64, 64)).save(source, image_format.pillow)
        reencode(source.getvalue(), image_format, output, len(source.getvalue()) * 2)
        describe(output.getvalue(), image_format)


def _one_image(connection: socket.socket) -> NoReturn:
    """Wait for a job, do it, and end the process."""
    message, files, _, _ = socket.recv_fds(connection, JOB_BYTES, 3)
    if not message:
        os._exit(_CLOSED)
    connection.close()
    with suppress(OSError):  # Linux only: if memory ends, this process ends and not storage
        Path("/proc/self/oom_score_adj").write_text("1000")
    source, output, reply_to = files
    job = Job(**json.loads(message))
    with suppress(OSError), socket.socket(fileno=reply_to) as reply:
        try:
            result = _result(job, source, output, reply)
        except ImageRefused as error:
            result = Result(problem=str(error), reason=error.reason)
        except MemoryError:
            limit = job.memory_bytes
            problem = f"the image needs more memory to decode and encode than the limit of {limit} bytes"
            result = Result(problem=problem, reason=TOO_LARGE)
        except Exception as error:
            result = Result(problem=f"the image cannot be decoded: {type(error).__name__}", reason=INVALID)
        reply.sendall(json.dumps(asdict(result)).encode())
    os._exit(0)


def _result(job: Job, source: int, output: int, reply: socket.socket) -> Result:
    size = os.fstat(source).st_size
    _confine(_HEADER_MEMORY_BYTES + 2 * size, HEADER_CPU_SECONDS)
    data = os.pread(source, size, 0)
    image_format = FORMATS[job.image_format]
    needed = min(memory_needed(data, image_format), job.memory_bytes)
    reply.sendall(needed.to_bytes(NEEDED_BYTES, "big"))
    signal.alarm(0)
    if reply.recv(1) != GO:  # storage waits until so much memory is free
        os._exit(0)
    _confine(needed, CPU_SECONDS + int(needed / _PIXEL_BYTES / 1e6 * CPU_SECONDS_PER_MEGAPIXEL))
    if not job.reencode:
        return Result(*describe(data, image_format))
    with os.fdopen(output, "w+b", buffering=0, closefd=False) as file:
        width, height, thumbhash = reencode(data, image_format, file, job.max_bytes)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Result(width, height, thumbhash, file.tell(), sha256)


def _confine(memory_bytes: int, cpu_seconds: int) -> None:
    """Set the limits: memory beyond what this process has already, and CPU seconds from now on."""
    used = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + 1
    _limit(resource.RLIMIT_CPU, used + cpu_seconds)
    signal.alarm(int(cpu_seconds * _WALL_FACTOR))
    _limit(resource.RLIMIT_CORE, 0)
    with suppress(OSError):  # Linux only
        # Not RLIMIT_AS: the memory that the C library reserves for a thread counts there.
        _limit(resource.RLIMIT_DATA, _data_bytes() + memory_bytes)


def _limit(which: int, value: int) -> None:
    with suppress(ValueError, OSError):
        resource.setrlimit(which, (value, resource.getrlimit(which)[1]))


def _data_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
