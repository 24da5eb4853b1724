"""Requests that come when they come: a Poisson stream, and how long others' ways of serving would make it wait."""

import random
from collections.abc import Sequence
from dataclasses import dataclass


def poisson(count: int, rate: float) -> list[float]:
    """Seconds before each of `count` arrivals, `rate` a second on average; the same each time."""
    generator = random.Random(0)
    return [generator.expovariate(rate) for _ in range(count)]


@dataclass(frozen=True)
class Speeds:
    """Seconds that one image takes alone, and a whole batch; between them, time grows about linearly."""

    one: float
    whole: float
    batch: int

    def serial(self, gaps: Sequence[float]) -> list[float]:
        """Latencies of a queue that paints one image after the other."""
        latencies, free = [], 0.0
        for arrival in _times(gaps):
            free = max(free, arrival) + self.one
            latencies.append(free - arrival)
        return latencies

    def windows(self, gaps: Sequence[float]) -> list[float]:
        """Latencies of one that paints whole batches of what has come, and lets nobody join."""
        latencies: list[float] = []
        free, left = 0.0, _times(gaps)
        while left:
            start = max(free, left[0])
            taken = [arrival for arrival in left if arrival <= start][: self.batch]
            left = left[len(taken) :]
            free = start + self.one + (self.whole - self.one) * (len(taken) - 1) / max(1, self.batch - 1)
            latencies += [free - arrival for arrival in taken]
        return latencies


def _times(gaps: Sequence[float]) -> list[float]:
    times, now = [], 0.0
    for gap in gaps:
        now += gap
        times.append(now)
    return times
