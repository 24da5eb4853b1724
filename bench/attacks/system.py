"""The system under attack: our own, on free ports, with long posts and a large picture."""

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from bench.load.preparation import noise
from bench.load.stack import own
from local.ports import free_port

_SAMPLE_SECONDS = 0.2
_LONG_POSTS = 40
_CHARACTERS = 100_000
_BRACKETS = 3


@dataclass
class Memory:
    """Resident memory of the processes that a reader reaches, in MiB."""

    before: dict[str, float]
    highest: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """Each process, and all together."""
        parts = [f"{name} {self.before[name]:.0f} → {self.highest[name]:.0f}" for name in self.before]
        more = sum(self.highest.values()) - sum(self.before.values())
        return f"{', '.join(parts)}; together + {more:.0f} MiB"


@dataclass
class System:
    """A running system with its data."""

    port: int
    posts_address: str
    processes: dict[str, int]
    picture_path: str = ""
    small_path: str = ""
    bracket_slug: str = ""
    long_posts: int = _LONG_POSTS

    @contextlib.asynccontextmanager
    async def memory(self) -> AsyncIterator[Memory]:
        """Sample the memory of gateway, storage and posts until the block ends."""
        seen = Memory(self._resident())
        seen.highest = dict(seen.before)

        async def sample() -> None:
            while True:
                for name, mebibytes in self._resident().items():
                    seen.highest[name] = max(seen.highest[name], mebibytes)
                await asyncio.sleep(_SAMPLE_SECONDS)

        task = asyncio.create_task(sample())
        try:
            yield seen
        finally:
            task.cancel()

    def cut_off(self) -> str:
        """How many connections the gateway has, and how many it has cut off since its start, by reason."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as response:
            lines = response.read().decode().splitlines()
        found = [line.removeprefix("gateway_connections") for line in lines if line.startswith("gateway_connections")]
        kept = [line.replace("_cut_total", "cut").replace(".0", "") for line in found if "created" not in line]
        return "; ".join(line.strip() for line in kept)

    def _resident(self) -> dict[str, float]:
        return {name: _resident_mebibytes(pid) for name, pid in self.processes.items()}

    @contextlib.asynccontextmanager
    async def half_open_calls(self, number: int) -> AsyncIterator[int]:
        """Calls of a stream of requests on one connection, none of which sends anything; how many the client began."""
        async with grpc.aio.insecure_channel(self.posts_address) as channel:
            method: Any = channel.stream_unary("/frontispiece.posts.v1.PostService/GetPost")
            calls = [method() for _ in range(number)]
            await asyncio.sleep(2)
            yield sum(not call.done() for call in calls)
            for call in calls:
                call.cancel()


def _resident_mebibytes(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@contextlib.asynccontextmanager
async def system(folder: Path) -> AsyncIterator[System]:
    """Start the system with its data in `folder`, and create posts and a picture."""
    port = free_port()
    more = {"GATEWAY_PORT": str(port), "PUBLIC_BASE_URL": f"http://127.0.0.1:{port}"}
    async with own(folder, more) as targets:
        names = ("gateway", "storage", "posts")
        processes = {name: int((folder / "run" / f"{name}.pid").read_text()) for name in names}
        one = System(port, targets.hosts["posts"], processes)
        await asyncio.to_thread(_fill, one, (folder / "token").read_text().strip())
        yield one


def _fill(one: System, token: str) -> None:
    large = _send(one, token, "/api/media/images", noise(2000, 2000), "image/png")
    small = _send(one, token, "/api/media/images", noise(64, 64), "image/png")
    one.picture_path, one.small_path = f"/media/{large['key']}", f"/media/{small['key']}"
    for number in range(_LONG_POSTS):
        bracket = number >= _LONG_POSTS - _BRACKETS
        text = "[" * _CHARACTERS if bracket else ("a plain word or two " * _CHARACTERS)[:_CHARACTERS]
        body = {"title": f"Post {number}", "content": text, "featured_image_key": small["key"], "publish": True}
        made = _send(one, token, "/api/posts", json.dumps(body).encode(), "application/json")
        one.bracket_slug = made["slug"]


def _send(one: System, token: str, path: str, body: bytes, kind: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {token}", "content-type": kind}
    made = urllib.request.Request(f"http://127.0.0.1:{one.port}{path}", body, headers)
    with urllib.request.urlopen(made, timeout=120) as response:
        answer: dict[str, Any] = json.load(response)
        return answer
