"""C11: open-loop load. Every server gets the same requests at the same times, however late its responses are."""

import asyncio
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.generator.arrivals import EQUAL, MIXED, Mix, poisson_turn
from bench.generator.parties import Ours, Server, Wanted, our_service, stock_loop
from bench.generator.queues import queue
from bench.generator.report import Report, median, percentile
from bench.generator.side_by_side import BATCH, Rivals, compare_pictures, joined
from bench.generator.subject import PROMPTS

COUNT = 24
"""Requests of a turn: two of each kind of the mix."""

SHARES = (0.5, 0.8)
WINDOW_SECONDS = 0.01
PATIENCE_SECONDS = 60.0
GUIDANCE = 5.0


@dataclass(frozen=True)
class Outcome:
    """One turn: seconds from when each request was due to its image, infinite where none came, and images a second."""

    latencies: list[float]
    rate: float

    @property
    def unfinished(self) -> int:
        """Requests without an image."""
        return sum(not math.isfinite(latency) for latency in self.latencies)


async def open_loop(
    party: Server, gaps: Sequence[float], wanted: Sequence[Wanted], patience_seconds: float = PATIENCE_SECONDS
) -> Outcome:
    """Send each request when it is due, however many are unanswered; ends when all are answered or given up.

    What a request waits because the client was late counts as latency.
    """
    begin = time.perf_counter()
    latencies = [math.inf] * len(wanted)
    due = 0.0

    async def send(place: int, due: float) -> None:
        await asyncio.sleep(begin + due - time.perf_counter())
        try:
            async with asyncio.timeout(patience_seconds):
                await party.paint(wanted[place])
        except Exception:  # refused, failed or given up: the same to who asked
            return
        latencies[place] = time.perf_counter() - begin - due

    async with asyncio.TaskGroup() as group:
        for place, gap in enumerate(gaps):
            due += gap
            group.create_task(send(place, due))
    finished = sum(math.isfinite(latency) for latency in latencies)
    return Outcome(latencies, finished / (time.perf_counter() - begin))


@dataclass
class Turns:
    """The turns of one party at one load."""

    outcomes: list[Outcome] = field(default_factory=list)
    first_steps: list[float] = field(default_factory=list)

    def percentiles(self, percent: float) -> list[float]:
        """Of each turn, in milliseconds."""
        return [1e3 * percentile(outcome.latencies, percent) for outcome in self.outcomes]


class OpenLoop:
    """Measures servers that are up; rows go to the report under `row`. The first is what all are compared with."""

    def __init__(self, report: Report, row: str, parties: Sequence[Server], mix: Mix, count: int = COUNT) -> None:
        """`count` requests of that mix a turn."""
        self._report = report
        self._row = row
        self._parties = list(parties)
        self._mix = mix
        self._count = count
        self._batches = 0

    def draw(self, count: int | None = None) -> list[Wanted]:
        """Requests with prompts that are in no cache."""
        self._batches += 1
        kinds = self._mix.kinds(count or self._count, self._batches)
        return [
            Wanted(
                f"{PROMPTS[n % len(PROMPTS)]}, number {self._batches} {n}",
                seed=1000 * self._batches + n,
                steps=steps,
                guidance=GUIDANCE if guided else 0.0,
            )
            for n, (steps, guided) in enumerate(kinds)
        ]

    async def capacities(self) -> dict[str, float]:
        """Images a second of each in a closed loop of as many clients as a batch has places, a turn each."""
        found = {}
        for party in self._parties:
            wanted = self.draw()
            begin = time.perf_counter()
            await party.closed_loop(BATCH, wanted)
            found[party.name] = len(wanted) / (time.perf_counter() - begin)
            what = f"{self._mix.name}: {party.name}, closed loop of {BATCH} clients"
            self._report.add(self._row, what, found[party.name], "images/s", f"{len(wanted)} images, once")
        return found

    async def measure(self, capacity: float, rounds: int, reserve_seconds: float = 0.0) -> None:
        """Rounds at shares of one capacity: in each, every party gets the same requests at the same times.

        Another one is first each time. Rounds for which no time is left, `reserve_seconds` kept, are left out.
        """
        loads = {share: {party.name: Turns() for party in self._parties} for share in SHARES}
        longest = 0.0
        for number in range(rounds):
            if number and self._report.left_seconds < 1.1 * longest + reserve_seconds:
                break
            begin = time.monotonic()
            for share, turns in loads.items():
                wanted = self.draw()
                gaps = poisson_turn(self._count, share * capacity, self._batches)
                first = number % len(self._parties)
                for party in self._parties[first:] + self._parties[:first]:
                    await self._turn(party, gaps, wanted, turns[party.name])
            longest = max(longest, time.monotonic() - begin)
        for share, turns in loads.items():
            self._add(f"{self._mix.name}, {100 * share:.0f} % of ours", turns, dict.fromkeys(turns, share * capacity))

    async def measure_own(self, capacities: dict[str, float]) -> None:
        """A turn each at the higher share of one's own capacity."""
        share = max(SHARES)
        turns = {party.name: Turns() for party in self._parties}
        rates = {name: share * capacity for name, capacity in capacities.items()}
        wanted, seed = self.draw(), self._batches
        for party in self._parties:
            gaps = poisson_turn(self._count, rates[party.name], seed)
            await self._turn(party, gaps, wanted, turns[party.name])
        name = f"{self._mix.name}, {100 * share:.0f} % of their own"
        self._add(name, turns, rates)

    async def _turn(self, party: Server, gaps: Sequence[float], wanted: Sequence[Wanted], turns: Turns) -> None:
        if isinstance(party, Ours):
            party.first_steps.clear()
        turns.outcomes.append(await open_loop(party, gaps, wanted))
        if isinstance(party, Ours):
            turns.first_steps += party.first_steps

    def _add(self, name: str, turns: dict[str, Turns], rates: dict[str, float]) -> None:
        ours = turns[self._parties[0].name]
        for party, theirs in turns.items():
            who = f"{name}: {party}"
            outcomes = theirs.outcomes
            for percent in (50, 95):
                values = theirs.percentiles(percent)
                ratios = [our / their for our, their in zip(ours.percentiles(percent), values, strict=True)]
                spread = f"ours, paired in {len(ratios)} rounds; {min(ratios):.3f} to {max(ratios):.3f}"
                compared = ("", None) if theirs is ours else (spread, median(ratios))
                self._report.add(self._row, f"{who}, p{percent}", median(values), "ms", *compared)
            latencies = [latency for outcome in outcomes for latency in outcome.latencies]
            unfinished = sum(outcome.unfinished for outcome in outcomes)
            told = f"of {len(latencies)} requests, {unfinished} not finished"
            self._report.add(self._row, f"{who}, p99", 1e3 * percentile(latencies, 99), "ms", told)
            answered = statistics.mean(outcome.rate for outcome in outcomes)
            asked = f"{rates[party]:.2f} asked for a second"
            self._report.add(self._row, f"{who}, answered", answered, "images/s", asked)
            if theirs.first_steps:
                told = f"p95 {1e3 * percentile(theirs.first_steps, 95):.0f} ms"
                self._report.add(
                    self._row, f"{who}, news of the first step, p50", 1e3 * median(theirs.first_steps), "ms", told
                )


async def arrivals(report: Report, row: str, model: Path, rounds: int, rivals: Rivals, kept_seconds: float) -> None:
    """C11a, where all requests are alike, or C11b, where they are not: ours, two queues around the pipeline, rivals.

    Of the time that is left, `kept_seconds` are kept for others.
    """
    mix = EQUAL if row == "C11a" else MIXED
    folder = model.parent
    async with (
        our_service(model, folder, BATCH) as ours,
        stock_loop(model, folder) as (one, lists),
        queue("pipe() behind a queue", one) as line,
        queue("pipe() with lists of up to 8 alike", lists, BATCH, WINDOW_SECONDS) as windows,
        joined(report, row, model, rivals) as others,
    ):
        parties: list[Server] = [ours, line, windows, *others]
        measured = OpenLoop(report, row, parties, mix)
        await compare_pictures(report, row, one, parties, measured.draw(12))
        begin = time.monotonic()
        capacities = await measured.capacities()
        # A turn at four fifths of its own capacity takes each party somewhat longer than its closed loop did.
        own_seconds = 2.0 * (time.monotonic() - begin)
        await measured.measure(capacities[ours.name], rounds, own_seconds + kept_seconds)
        if report.left_seconds > own_seconds + kept_seconds:
            await measured.measure_own(capacities)
