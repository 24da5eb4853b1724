"""Requests that come when they come: Poisson streams, what is asked for, and models of how long it would wait."""

import random
from collections.abc import Sequence
from dataclasses import dataclass


def poisson(count: int, rate: float, seed: int = 0) -> list[float]:
    """Seconds before each of `count` arrivals, `rate` a second on average; the same each time for a seed."""
    generator = random.Random(seed)
    return [generator.expovariate(rate) for _ in range(count)]


def poisson_turn(count: int, rate: float, seed: int) -> list[float]:
    """The same, stretched to take as long as it should: in a short turn chance would offer a fifth more or less."""
    gaps = poisson(count, rate, seed)
    stretch = count / rate / sum(gaps)
    return [gap * stretch for gap in gaps]


@dataclass(frozen=True)
class Mix:
    """What callers ask for: so many steps, and a share of them without guidance, which halves the work of a step."""

    name: str
    steps: tuple[int, ...]
    unguided_of_four: int = 0

    def kinds(self, count: int, seed: int) -> list[tuple[int, bool]]:
        """Steps of each of `count` requests, and whether it is guided; the same each time for a seed.

        Every kind comes equally often, in an order drawn at random, so that all turns are the same amount of work.
        """
        whole = [(steps, quarter >= self.unguided_of_four) for steps in self.steps for quarter in range(4)]
        drawn = [kind for _ in range(-(-count // len(whole))) for kind in whole][:count]
        random.Random(seed).shuffle(drawn)
        return drawn


EQUAL = Mix("all alike", (20,))
MIXED = Mix("mixed", (8, 20, 40), unguided_of_four=1)


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
        """Latencies of a server that generates whole batches of the waiting requests; none joins a running batch."""
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
