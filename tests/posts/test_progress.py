"""Progress of an attempt: added up over candidates, never backwards, never beyond the end, not too often."""

import asyncio
import itertools
import random
import time

from services.posts.clients.generator import Sketch, Step, Waiting
from services.posts.models import Preview, Progress
from services.posts.worker.progress import MAX_ETA_SECONDS, MIN_INTERVAL_SECONDS, ProgressMeter


async def told_of(meter: ProgressMeter, script: list[tuple[int, Waiting | Step | Sketch]]) -> list[Progress | Preview]:
    """What the meter tells while these are reported one after another, each as soon as the one before was told."""
    told: list[Progress | Preview] = []

    async def note(what: Progress | Preview) -> None:
        told.append(what)

    teller = asyncio.create_task(meter.tell(note, note))
    for index, event in script:
        meter.report(index, event)
        await asyncio.sleep(MIN_INTERVAL_SECONDS * 1.1)
    teller.cancel()
    return told


async def test_it_never_falls_even_if_a_later_candidate_has_more_steps() -> None:
    script: list[tuple[int, Waiting | Step | Sketch]] = [
        (0, Waiting(2)),
        (0, Step(5, 10, 1.0)),
        (1, Step(1, 40, None)),
        (0, Step(4, 10, None)),
        (0, Step(10, 10, None)),
        (1, Waiting(0)),
        (1, Step(40, 40, None)),
    ]
    told = [what for what in await told_of(ProgressMeter(2), script) if isinstance(what, Progress)]
    assert (told[0].queue_position, told[0].total_steps) == (2, 0)
    fractions = [progress.step / progress.total_steps for progress in told[1:]]
    assert fractions == [0.25, 0.625]  # what would have been less was not told


async def test_a_stored_candidate_counts_whole() -> None:
    meter = ProgressMeter(2)
    meter.stored(0)
    meter.report(1, Step(1, 4, 2.0))
    now = meter.now()
    assert now is not None
    assert (now.step, now.total_steps) == (5, 8)
    meter.stored(1)
    assert meter.now() == Progress(8, 8, None, None)


async def test_at_most_five_a_second() -> None:
    times: list[float] = []

    async def note(what: Progress | Preview) -> None:
        times.append(time.monotonic())

    meter = ProgressMeter(1)
    teller = asyncio.create_task(meter.tell(note, note))
    for step in range(1, 60):
        meter.report(0, Step(step, 100, None))
        await asyncio.sleep(0.01)
    teller.cancel()
    assert len(times) >= 2
    assert min(after - before for before, after in itertools.pairwise(times)) > MIN_INTERVAL_SECONDS * 0.9


async def test_absurd_answers_do_no_harm() -> None:
    chance = random.Random(1)
    meter = ProgressMeter(4)
    for _ in range(1000):
        event = chance.choice(
            [
                Step(chance.randrange(2**32), chance.randrange(2**32), chance.choice([None, 1e300, -5.0])),
                Waiting(chance.randrange(2**32)),
                Sketch("text/html", b"x"),
                Sketch("image/png", b"x" * 100_000),
            ]
        )
        meter.report(chance.randrange(4), event)
        now = meter.now()
        assert now is None or now.total_steps == 0 or 0 <= now.step <= now.total_steps
        assert now is None or now.eta_seconds is None or 0 <= now.eta_seconds <= MAX_ETA_SECONDS
    assert meter._previews == {}
