"""`python -m bench.reading`: requests a second of the public read path beside servers written by hand.

All servers run at once on one database; each round measures them in turn with 8 connections, so that a busy moment of
the machine meets all. The table shows medians of the rounds, and the processor time of the server's processes for one
request, which a busy machine changes least. PostgreSQL's and the client's own time are not in it.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.reading.servers import Server, servers

OURS = ("gateway, no cache", "gateway")
READS = ("hand-written", "hand-written, gRPC", *OURS)
PAGES = ("hand-written", *OURS)
BARE = ("Starlette", "FastAPI", "gateway")


@dataclass(frozen=True)
class Round:
    """What one server did with one path in one round."""

    rate: float
    cpu_ms: float
    failures: int
    bytes: int


def measure(server: Server, path: str, connections: int, seconds: float) -> Round:
    """Run the client as a process of its own."""
    before = server.cpu_seconds()
    command = [sys.executable, "-m", "bench.reading.client", server.address, path, str(connections), str(seconds)]
    counted = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    used = server.cpu_seconds() - before
    responses = max(1, counted["responses"])
    return Round(
        responses / counted["seconds"], used * 1e3 / responses, counted["failures"], counted["bytes"] // responses
    )


def rows(found: dict[str, Server], slug: str, arguments: argparse.Namespace) -> list[str]:
    """The lines of the table."""
    paths = {"/api/posts": READS, f"/api/posts/{slug}": READS, "/": PAGES, f"/posts/{slug}": PAGES, "/healthz": BARE}
    lines = []
    for path, names in paths.items():
        rounds: dict[str, list[Round]] = {name: [] for name in names}
        for name in names:
            measure(found[name], path, arguments.connections, 0.5)  # caches of statements and templates
        for _ in range(arguments.rounds):
            for name in names:
                rounds[name].append(measure(found[name], path, arguments.connections, arguments.seconds))
        first = names[0]
        for name in names:
            ratios = [one.rate / other.rate for one, other in zip(rounds[name], rounds[first], strict=True)]
            mine = rounds[name]
            lines.append(
                f"| {path.replace(slug, '{slug}')} | {name} | {statistics.median(one.rate for one in mine):,.0f} | "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) | "
                f"{statistics.median(one.cpu_ms for one in mine):.2f} | {mine[0].bytes:,} | "
                f"{sum(one.failures for one in mine)} |"
            )
            print(lines[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
    return lines


async def main(arguments: argparse.Namespace) -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        async with servers(Path(folder)) as (found, slug):
            lines = await asyncio.to_thread(rows, found, slug, arguments)
    head = "| path | server | requests/s | of the first | CPU ms | bytes | failures |"
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    text = f"{head}\n|---|---|---|---|---|---|---|\n" + "\n".join(lines) + f"\n\nload average {load}\n"
    if arguments.out:
        Path(arguments.out).write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--out", default="", help="file for the table")
    asyncio.run(main(parser.parse_args()))
