"""The servers to measure: a system of our own on free ports, or a deployment that runs already; and the no-op."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.environment import TUNING
from local.ports import free_port

START_TIMEOUT_SECONDS = 240.0
STOP_TIMEOUT_SECONDS = 30.0


class StackError(RuntimeError):
    """The system does not start."""


@dataclass(frozen=True)
class Targets:
    """The addresses of the servers, and their process ids where we may read them."""

    hosts: Mapping[str, str]
    processes: Mapping[str, int] = field(default_factory=dict)

    def cpu_seconds(self, service: str) -> float | None:
        """Processor time that a server has used; None if the server is not ours, or the system is not Linux."""
        return self._stat(service, "stat")

    def resident_mib(self, service: str) -> float | None:
        """The resident memory of a server, in MiB; None as above."""
        return self._stat(service, "statm")

    def _stat(self, service: str, name: str) -> float | None:
        try:
            text = Path(f"/proc/{self.processes[service]}/{name}").read_text()
        except (KeyError, OSError):
            return None
        if name == "statm":
            return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextlib.asynccontextmanager
async def own(folder: Path, more: Mapping[str, str] = {}) -> AsyncIterator[Targets]:
    """The system as `make run` starts it, with its data in `folder` and no generator for the tasks of the load tests.

    `more`: further environment variables.
    """
    names = ("generator", "storage", "posts")
    hosts = {name: f"127.0.0.1:{free_port()}" for name in names}
    port = int(more.get("GATEWAY_PORT") or free_port())
    dropped = ("AWS_", "GATEWAY_", "POSTS_", "WORKER_", "STORAGE_", "GENERATOR_", "S3_", "USE_S3", "PUBLIC_BASE_URL")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(dropped)},
        "FRONTISPIECE_DATA": str(folder),
        "GATEWAY_PORT": str(port),
        **{f"{name.upper()}_LISTEN": host for name, host in hosts.items()},
        "POSTS_GENERATOR_TARGETS": ",",
        "GENERATOR_MODEL": "tiny",  # the service around the model is measured
        **more,
    }
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "local"], env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        await _ready(process, f"http://127.0.0.1:{port}/readyz", folder / "output.txt")
        yield Targets(hosts, {name: int((folder / "run" / f"{name}.pid").read_text()) for name in names})
    finally:
        await asyncio.to_thread(_stop, process, signal.SIGINT)


async def _ready(process: subprocess.Popen[bytes], url: str, output: Path) -> None:
    def is_ready() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
        return False

    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not await asyncio.to_thread(is_ready):
        if process.poll() is not None or time.monotonic() > deadline:
            raise StackError("the system does not start:\n" + output.read_text(errors="replace")[-4000:])
        await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def noop(recording: Path, folder: Path | None = None) -> AsyncIterator[Targets]:
    """The no-op server, a process with the environment of ours. It keeps uploads in `folder`, if given."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.load.noop",
        str(recording),
        *([str(folder)] if folder else []),
        stdout=asyncio.subprocess.PIPE,
        env={**TUNING, **os.environ},
    )
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        names = ("generator", "storage", "posts")
        yield Targets(dict.fromkeys(names, f"127.0.0.1:{port}"), dict.fromkeys(names, process.pid))
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _stop(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
