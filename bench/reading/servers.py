"""The servers to compare, each a process on a free port: a system of our own, and its rivals on the same database."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load.preparation import prepare
from bench.load.stack import own
from local.ports import free_port

UNCACHED = {"GATEWAY_CACHE_BYTES": "0"}
_START_SECONDS = 30.0


@dataclass(frozen=True)
class Server:
    """One server: its address, and the processes that work for it, PostgreSQL aside."""

    name: str
    address: str
    processes: tuple[int, ...]

    def cpu_seconds(self) -> float:
        """Processor time that its processes have used."""
        return sum(_cpu_seconds(process) for process in self.processes)


def _cpu_seconds(process: int) -> float:
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _started(module: Sequence[str], port: int, path: str, environment: Mapping[str, str]) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", *module], env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(port, path, process)
        yield process.pid
    finally:
        process.terminate()
        process.wait(_START_SECONDS)


def _wait(port: int, path: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until `path` is served, or until the port accepts connections if there is none."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            if path:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2).close()
            else:
                socket.create_connection(("127.0.0.1", port), timeout=2).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _environment(process: int) -> dict[str, str]:
    """The environment variables of a running process of ours."""
    items = Path(f"/proc/{process}/environ").read_text().split("\0")
    return dict(item.split("=", 1) for item in items if "=" in item)


@contextlib.asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[tuple[dict[str, Server], str]]:
    """All servers on one database with posts, and the slug of a post."""
    async with own(folder) as targets:
        slug = (await prepare(targets.hosts))["post_slug"]
        posts = targets.processes["posts"]
        variables = _environment(posts)
        with contextlib.ExitStack() as stack:
            found: dict[str, Server] = {}

            async def add(name: str, module: Sequence[str], path: str, more: Mapping[str, str], *helpers: int) -> int:
                port = free_port()
                arguments = [str(port) if one == "PORT" else one for one in module]
                chosen = {**variables, **more, "GATEWAY_PORT": str(port), "PUBLIC_BASE_URL": f"http://127.0.0.1:{port}"}
                chosen["BASE_URL"] = chosen["PUBLIC_BASE_URL"]
                process = await asyncio.to_thread(lambda: stack.enter_context(_started(arguments, port, path, chosen)))
                found[name] = Server(name, f"127.0.0.1:{port}", (process, *helpers))
                return process

            database = {"DATABASE_URL": variables["POSTS_DATABASE_URL"]}
            await add("hand-written", ["bench.reading.hand_written", "PORT"], "/api/posts", database)
            reads = await add("posts", ["bench.reading.split", "posts", "PORT"], "", database)
            target = {"POSTS_TARGET": found.pop("posts").address}
            await add("hand-written, gRPC", ["bench.reading.split", "front", "PORT"], "/api/posts", target, reads)
            await add("gateway, no cache", ["gateway"], "/healthz", UNCACHED, posts)
            await add("gateway", ["gateway"], "/healthz", {}, posts)
            await add("FastAPI", ["bench.reading.bare", "fastapi", "PORT"], "/healthz", {})
            await add("Starlette", ["bench.reading.bare", "starlette", "PORT"], "/healthz", {})
            yield found, slug
