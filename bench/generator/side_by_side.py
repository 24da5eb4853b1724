"""Rounds in which all parties take turns, so that each ratio is of two turns that met the same neighbours."""

import asyncio
import contextlib
import io
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.generator import servers
from bench.generator.parties import Loop, Party, Server, Wanted, our_service, stock_loop
from bench.generator.report import Report, median, percentile
from bench.generator.subject import PROMPTS

BATCH = 8
RAW = "raw pipe()"


@dataclass
class Turns:
    """What one party did at one number of clients: a figure a round, a latency an image."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)


class SideBySide:
    """Measures parties that are up; rows go to the report under `row`."""

    def __init__(self, report: Report, row: str, parties: list[Party]) -> None:
        """One of the parties is the raw loop, which all are compared with."""
        self._report = report
        self._row = row
        self._parties = parties
        self._numbers = itertools.count()

    def _fresh(self, count: int) -> list[Wanted]:
        """Prompts that are in no cache of prompts."""
        return [
            Wanted(f"{PROMPTS[n % len(PROMPTS)]}, number {n}", seed=n) for n in itertools.islice(self._numbers, count)
        ]

    async def measure(self, clients: int, rounds: int, aim: str = "") -> None:
        """Rounds at that many clients; in each one everybody has a turn, another one first each time."""
        parties = [party for party in self._parties if clients > 1 or not _makes_lists(party)]
        turns = {party.name: Turns() for party in parties}
        for number in range(rounds):
            first = number % len(parties)
            for party in parties[first:] + parties[:first]:
                # The raw loop is as fast for few as for many; the others need some for their batches to fill.
                count = 4 if clients == 1 or party.name == RAW else 3 * clients
                await self._turn(party, clients, self._fresh(count), turns[party.name])
        for party in parties:
            self._add(party.name, clients, turns[party.name], turns[RAW], aim if party.name == "ours" else "")

    async def _turn(self, party: Party, clients: int, wanted: list[Wanted], turns: Turns) -> None:
        cpu, own = party.cpu_seconds(), time.process_time()
        begin = time.perf_counter()
        turns.latencies += await party.closed_loop(clients, wanted)
        turns.rates.append(len(wanted) / (time.perf_counter() - begin))
        used = party.cpu_seconds() - cpu + time.process_time() - own
        turns.cpu.append(used / len(wanted))

    def _add(self, name: str, clients: int, turns: Turns, raw: Turns, aim: str) -> None:
        who = f"{clients} client{'s' * (clients > 1)}: {name}"
        rate, cpu = median(turns.rates), median(turns.cpu)
        if name == RAW:
            self._report.add(self._row, f"{who}, images a second", rate, "images/s")
        else:
            ratios = [ours / theirs for ours, theirs in zip(turns.rates, raw.rates, strict=True)]
            low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
            spread = f"{RAW}, paired in {len(ratios)} rounds; quartiles {low:.3f} to {high:.3f}{aim and '; aim ' + aim}"
            self._report.add(self._row, f"{who}, images a second", rate, "images/s", spread, median(ratios))
        p50, p95 = (1e3 * percentile(turns.latencies, percent) for percent in (50, 95))
        self._report.add(self._row, f"{who}, a request, p50", p50, "ms", f"p95 {p95:.0f} ms")
        reference = f"{RAW}; the client's is in it"
        ratio = None if name == RAW else median(raw.cpu) / cpu
        self._report.add(self._row, f"{who}, CPU an image", 1e3 * cpu, "ms", reference, ratio)

    async def compare_pictures(self) -> None:
        """Whether all paint the same."""
        (raw,) = (party for party in self._parties if party.name == RAW)
        others = [party for party in self._parties if not isinstance(party, Loop)]
        await compare_pictures(self._report, self._row, raw, others, self._fresh(BATCH))


async def compare_pictures(
    report: Report, row: str, raw: Party, others: Sequence[Party], wanted: Sequence[Wanted]
) -> None:
    """What each of the others paints when asked for all at once, against the raw loop's, in grey levels of 255."""
    expected = [_pixels(await raw.paint(one)) for one in wanted]
    for party in others:
        painted = await asyncio.gather(*(party.paint(one) for one in wanted))
        worst = max(float(np.abs(_pixels(b) - a).mean()) for a, b in zip(expected, painted, strict=True))
        what = f"{party.name}: {len(wanted)} pictures asked for at once, largest mean difference from raw"
        report.add(row, what, worst, "levels", f"of 255; {_kind(painted[0])}")


async def service_against_raw(report: Report, model: Path, folder: Path, rounds: int) -> None:
    """C1: our service, the raw loop, and lists of prompts."""
    async with stock_loop(model, folder) as loops, our_service(model, folder, BATCH) as ours:
        both = SideBySide(report, "C1", [*loops, ours])
        await both.compare_pictures()
        await both.measure(1, 4 * rounds, "≥ 0.95")
        await both.measure(BATCH, rounds, "≥ 1.4")


@dataclass(frozen=True)
class Rivals:
    """Other servers to measure, and a folder to keep their environments in; None for one that is thrown away."""

    names: tuple[str, ...] = ()
    environments: Path | None = None


NO_RIVALS = Rivals()


async def against_rivals(report: Report, model: Path, rounds: int, rivals: Rivals) -> None:
    """C10: the same with other servers."""
    folder = model.parent
    async with (
        stock_loop(model, folder) as loops,
        our_service(model, folder, BATCH) as ours,
        joined(report, "C10", model, rivals) as others,
    ):
        everybody = SideBySide(report, "C10", [*loops, ours, *others])
        await everybody.compare_pictures()
        await everybody.measure(1, 2 * rounds)
        await everybody.measure(BATCH, rounds)


@asynccontextmanager
async def joined(report: Report, row: str, model: Path, rivals: Rivals) -> AsyncIterator[list[Server]]:
    """The rivals, warm; one that does not install or start is noted and left out."""
    async with contextlib.AsyncExitStack() as stack:
        up: list[Server] = []

        async def join(name: str) -> None:
            with _noted(report, row, name):
                environment = await asyncio.to_thread(servers.install, name, rivals.environments or model.parent)
                server = servers.rival_server(name, environment, model, model.parent, BATCH)
                up.append(await stack.enter_async_context(server))

        await asyncio.gather(*(join(name) for name in rivals.names))
        yield sorted(up, key=lambda server: rivals.names.index(server.name))


@contextlib.contextmanager
def _noted(report: Report, row: str, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        told = str(getattr(error, "stderr", "") or error).strip().splitlines() or [repr(error)]
        report.add(row, f"{name}: left out: {told[-1][:160]}", float("nan"), "")


def _makes_lists(party: Party) -> bool:
    return isinstance(party, Loop) and party.name != RAW


def _pixels(image: bytes) -> Any:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).astype(float)


def _kind(image: bytes) -> str:
    return "PNG" if image.startswith(b"\x89PNG") else "JPEG"
