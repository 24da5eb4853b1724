"""`python -m bench.posts`: reads of posts at several sizes, each through a posts service and a gateway of its own.

The databases are in one PostgreSQL server, which is started for this. The sizes take turns with every call, so that a
busy moment of the machine meets all. The gateway keeps no finished answers here.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import httpx

from bench.posts.fill import filled
from bench.posts.reads import Read, middle, reads, stub
from bench.posts.rows_read import rows_read
from local.ports import free_port
from local.postgres import Postgres

_START_SECONDS = 60.0
_FIRST_CALLS = 8
"""Calls that open connections and plan statements, not measured."""
# PostgreSQL's default of shared_buffers. A crash of the machine may lose these databases, which are made again.
_OPTIONS = {"shared_buffers": "128MB", "fsync": "off", "full_page_writes": "off", "max_wal_size": "8GB"}
_PAGES = ("/", "/?q=quality", "/?tag=share", "/posts/{slug}")


@dataclass(frozen=True)
class Site:
    """A database of one size with its servers: the reads, each with a call that repeats it, and the rows it reads."""

    size: int
    calls: dict[str, Callable[[], Awaitable[Any]]]
    read: dict[str, tuple[int, int]]


@contextlib.asynccontextmanager
async def site(postgres: Postgres, folder: Path, size: int) -> AsyncIterator[Site]:
    """Fill a database and start its servers."""
    url = await filled(postgres, size)
    listen, port = f"127.0.0.1:{free_port()}", free_port()
    base = f"http://127.0.0.1:{port}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("POSTS_", "GATEWAY_"))},
        "POSTS_DATABASE_URL": url,
        "POSTS_LISTEN": listen,
        "GATEWAY_POSTS_TARGET": listen,
        "GATEWAY_PORT": str(port),
        "GATEWAY_TOKEN": "a token that nobody uses, of 40 characters",
        "GATEWAY_CACHE_BYTES": "0",
        "PUBLIC_BASE_URL": base,
    }
    connection = await asyncpg.connect(url)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        output = stack.enter_context((folder / f"{size}.log").open("wb"))
        for module in ("services.posts", "gateway"):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, env=environment, stdout=output, stderr=output
            )
            stack.push_async_callback(process.wait)
            stack.callback(process.terminate)
        await asyncio.to_thread(_wait, f"{base}/healthz")
        posts = stub(listen)
        await _answering(posts)
        token, slug = await middle(posts, connection)
        found = reads(token, slug)
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=base, timeout=20))
        pages = {f"GET {path}": path.format(slug=slug) for path in _PAGES}
        yield Site(
            size,
            {read.name: _bound(read, posts) for read in found}
            | {name: _get(client, path) for name, path in pages.items()},
            {read.name: await rows_read(connection, read.filters) for read in found if read.filters is not None},
        )


def _bound(read: Read, posts: Any) -> Callable[[], Awaitable[Any]]:
    return lambda: read.call(posts)


def _get(client: httpx.AsyncClient, path: str) -> Callable[[], Awaitable[Any]]:
    async def call() -> None:
        (await client.get(path)).raise_for_status()

    return call


async def _answering(posts: Any) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            await reads("", "")[0].call(posts)
            return
        except grpc.aio.AioRpcError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


def _wait(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=2).close()
            return
        if time.monotonic() > deadline:
            raise TimeoutError(url)
        time.sleep(0.1)


async def measure(sites: Sequence[Site], name: str, calls: int) -> tuple[list[float], list[int], list[int]]:
    """The p50 of one read at each size, in ms, the posts in its answer, and the number of failures.

    The sizes take turns with every call.
    """
    taken: list[list[float]] = [[] for _ in sites]
    failures, posts = [0] * len(sites), [0] * len(sites)
    for number in range(_FIRST_CALLS + calls):
        for place, one in enumerate(sites):
            begun = time.perf_counter()
            try:
                posts[place] = len(getattr(await one.calls[name](), "posts", ()))
            except (grpc.aio.AioRpcError, httpx.HTTPStatusError):
                failures[place] += 1
            if number >= _FIRST_CALLS:
                taken[place].append((time.perf_counter() - begun) * 1e3)
    return [statistics.median(times) for times in taken], posts, failures


async def main(arguments: argparse.Namespace) -> None:
    """Fill, measure, and write the table."""
    sizes = arguments.sizes
    times = " | ".join(f"p50 ms at {size:,}" for size in sizes)
    lines = [
        f"| read | {times} | last/first | posts | failures | rows read | pages read |",
        f"|---|{'---:|' * (len(sizes) + 5)}",
    ]
    with Postgres(Path(arguments.folder), options=_OPTIONS) as postgres:
        async with contextlib.AsyncExitStack() as stack:
            sites = [await stack.enter_async_context(site(postgres, Path(arguments.folder), size)) for size in sizes]
            for name in sites[0].calls:
                if arguments.only not in name:
                    continue
                p50, posts, failures = await measure(sites, name, arguments.calls)
                cells = [f"{value:.1f}" for value in p50] + [f"{p50[-1] / p50[0]:.2f}"]
                cells += [", ".join(map(str, posts)) if any(posts) else "", str(sum(failures))]
                cells += [
                    ", ".join(f"{one.read[name][part]:,}" for one in sites if name in one.read) for part in (0, 1)
                ]
                lines.append(f"| {name} | {' | '.join(cells)} |")
                print(lines[-1], flush=True)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    if arguments.out:
        Path(arguments.out).write_text("\n".join(lines) + f"\n\nload average {load} on {os.cpu_count()} cores\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000, 1_000_000], help="numbers of posts")
    parser.add_argument("--calls", type=int, default=60, help="calls of each read at each size")
    parser.add_argument("--only", default="", help="reads whose name contains this")
    parser.add_argument("--folder", default="build/bench-posts", help="where the databases are kept")
    parser.add_argument("--out", default="", help="file for the table")
    asyncio.run(main(parser.parse_args()))
