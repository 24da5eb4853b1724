"""`python -m bench.attacks`: the anonymous attacks of a security test on a system of our own, and a table of them.

Loopback only, about eight minutes. `--only NAME` runs some; `--result FILE` writes the table.
"""

import argparse
import asyncio
import resource
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bench.attacks.clients import Others, Sockets, others, request
from bench.attacks.system import System, system

Row = tuple[str, str, str, str]
HEADER = ("attack", "what was left of it", "other readers meanwhile", "memory: before → highest")


async def idle(one: System) -> list[Row]:
    """Two bytes that used to keep a connection for ever (S-H1)."""
    refused = b"POST /api/tasks HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    tricks = {
        "GET, then an empty line": (request("/healthz"), b"\r\n"),
        "GET with a length, then one byte": (request("/healthz", "content-length: 100000\r\n"), b"x"),
        "POST refused by 401, then one byte": (refused, b"x"),
    }
    made = {name: Sockets(one.port) for name in tricks}
    await asyncio.gather(*(made[name].connect(20, *pieces) for name, pieces in tricks.items()))
    took = await asyncio.gather(*(sockets.until_closed(100) for sockets in made.values()))
    rows = []
    for (name, sockets), seconds in zip(made.items(), took, strict=True):
        rows.append((f"20 × {name}", f"{len(sockets.open)} of 20 open after {seconds:.0f} s", "", ""))
        sockets.close()
    return rows


async def many(one: System) -> list[Row]:
    """More connections than there are file descriptors, held idle (S-H1)."""
    sockets = Sockets(one.port)
    async with one.memory() as memory, others(one.port) as seen:
        await sockets.connect(3000, b"GET /healthz HTTP/1.1\r\nhost:")
        await asyncio.sleep(5)
        sockets.take(4096)
        left = len(sockets.open)
    sockets.close()
    return [("3,000 connections, half a request each", f"{left} open after 5 s", str(seen), str(memory))]


async def texts(one: System) -> list[Row]:
    """Pages of posts with 100,000 brackets (S-H2)."""
    return [
        await _flood(one, path, 8, 15) for path in ("/", f"/posts/{one.bracket_slug}", f"/?q={'b+' * 99}b", "/docs")
    ]


async def search(one: System) -> list[Row]:
    """A query with one letter a hundred times (S-H3). bench.posts measures it over a million posts."""
    return [await _flood(one, f"/api/posts?q={'b+' * 99}b", 40, 15)]


async def _flood(one: System, path: str, connections: int, seconds: float) -> Row:
    # Each page size is another answer, so that the cache of the gateway does not give them all.
    paths = [f"{path}&page_size={size}" for size in range(1, 101)] if path.startswith("/api/") else [path]
    answers = Others()
    async with one.memory() as memory, others(one.port) as seen:
        async with asyncio.TaskGroup() as group:

            async def ask() -> None:
                async with others(one.port, paths, pause=0) as mine:
                    await asyncio.sleep(seconds)
                answers.statuses.update(mine.statuses)
                answers.worst = max(answers.worst, mine.worst)

            for _ in range(connections):
                group.create_task(ask())
    return (f"{connections} clients × {path[:30]} for {seconds:.0f} s", str(answers), str(seen), str(memory))


async def _slow(one: System, path: str, number: int, name: str) -> Row:
    sockets = Sockets(one.port, receive_bytes=2048)
    async with one.memory() as memory, others(one.port, ("/healthz", "/api/posts", one.small_path)) as seen:
        await sockets.connect(number, request(path))
        held = len(sockets.open)
        await sockets.until_closed(100, size=64, pause=5)
        cut = await asyncio.to_thread(one.cut_off)
    sockets.close()
    return (f"{held} × {name}, 64 bytes each 5 s", f"connections after 100 s: {cut}", str(seen), str(memory))


async def pictures(one: System) -> list[Row]:
    """Trickle readers of a picture of 12 MB (S-H4)."""
    return [await _slow(one, one.picture_path, 1000, "a picture of 12 MB")]


async def lists(one: System) -> list[Row]:
    """Trickle readers of a page of long posts (S-H4)."""
    path = f"/api/posts?page_size={one.long_posts}"
    return [await _slow(one, path, 40, f"a page of {one.long_posts} posts of 100,000 characters")]


async def streams(one: System) -> list[Row]:
    """One gRPC connection to posts with 1,100 calls that send nothing (S-M1)."""
    async with one.half_open_calls(1100) as held, others(one.port) as seen:
        await asyncio.sleep(10)
    return [(f"1,100 half-open calls, one connection ({held} begun)", "", str(seen), "")]


ATTACKS: dict[str, Callable[[System], Awaitable[list[Row]]]] = {
    "idle": idle,
    "many": many,
    "texts": texts,
    "search": search,
    "pictures": pictures,
    "lists": lists,
    "streams": streams,
}


async def run(names: Sequence[str]) -> str:
    """The table of these attacks, each on the system as the one before has left it."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        async with system(Path(folder)) as one:
            for name in names:
                print(f"{name} …", file=sys.stderr)
                rows += await ATTACKS[name](one)
                print(*rows, sep="\n", file=sys.stderr)
    lines = [HEADER, ("---",) * len(HEADER), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Parse the command line, attack, print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    table = asyncio.run(run(arguments.only))
    print(table)
    if arguments.result:
        arguments.result.write_text(table)


if __name__ == "__main__":
    main()
