"""Progress of an attempt: summed over candidates, never backwards, never beyond the end, not too often."""

import asyncio
import itertools
import random
import time

from frontispiece.generator.v1 import generator_pb2 as g
from frontispiece.posts.v1.tasks_pb2 import TaskPreview, TaskProgress
from google.protobuf.duration_pb2 import Duration

from services.posts.worker.progress import MAX_ETA_SECONDS, MIN_INTERVAL_SECONDS, ProgressMeter


def waiting(position: int) -> g.GenerateResponse:
    return g.GenerateResponse(queued=g.Queued(position=position))


def step(number: int, total: int, eta: float | None = None) -> g.GenerateResponse:
    duration = None if eta is None else Duration(seconds=int(eta))
    return g.GenerateResponse(progress=g.Progress(step=number, total_steps=total, eta=duration))


def preview(content_type: str, data: bytes) -> g.GenerateResponse:
    return g.GenerateResponse(preview=g.Preview(content_type=content_type, data=data))


async def reported(
    meter: ProgressMeter, script: list[tuple[int, g.GenerateResponse]]
) -> list[TaskProgress | TaskPreview]:
    """What the meter tells while these are reported one after another, each as soon as the one before was sent."""
    sent: list[TaskProgress | TaskPreview] = []

    async def note(what: TaskProgress | TaskPreview) -> None:
        sent.append(what)

    reporter = asyncio.create_task(meter.report(note))
    for index, event in script:
        meter.update(index, event)
        await asyncio.sleep(MIN_INTERVAL_SECONDS * 1.1)
    reporter.cancel()
    return sent


async def test_progress_never_falls_if_a_later_candidate_has_more_steps() -> None:
    script: list[tuple[int, g.GenerateResponse]] = [
        (0, waiting(2)),
        (0, step(5, 10, 1.0)),
        (1, step(1, 40, None)),
        (0, step(4, 10, None)),
        (0, step(10, 10, None)),
        (1, waiting(0)),
        (1, step(40, 40, None)),
    ]
    sent = [what for what in await reported(ProgressMeter(2), script) if isinstance(what, TaskProgress)]
    assert (sent[0].queue_position, sent[0].total_steps) == (2, 0)
    fractions = [progress.step / progress.total_steps for progress in sent[1:]]
    assert fractions == [0.25, 0.625]  # what would have been less was not sent


async def test_stored_candidate_counts_as_complete() -> None:
    meter = ProgressMeter(2)
    meter.stored(0)
    meter.update(1, step(1, 4, 2.0))
    now = meter.now()
    assert now is not None
    assert (now.step, now.total_steps) == (5, 8)
    meter.stored(1)
    assert meter.now() == TaskProgress(step=8, total_steps=8)


async def test_progress_is_sent_at_most_five_times_a_second() -> None:
    times: list[float] = []

    async def note(what: TaskProgress | TaskPreview) -> None:
        times.append(time.monotonic())

    meter = ProgressMeter(1)
    reporter = asyncio.create_task(meter.report(note))
    for number in range(1, 60):
        meter.update(0, step(number, 100, None))
        await asyncio.sleep(0.01)
    reporter.cancel()
    assert len(times) >= 2
    assert min(after - before for before, after in itertools.pairwise(times)) > MIN_INTERVAL_SECONDS * 0.9


async def test_impossible_reports_do_no_harm() -> None:
    chance = random.Random(1)
    meter = ProgressMeter(4)
    for _ in range(1000):
        event = chance.choice(
            [
                step(chance.randrange(2**32), chance.randrange(2**32), chance.choice([None, 3e11, -5.0])),
                waiting(chance.randrange(2**32)),
                preview("text/html", b"x"),
                preview("image/png", b"x" * 100_000),
            ]
        )
        meter.update(chance.randrange(4), event)
        now = meter.now()
        assert now is None or now.total_steps == 0 or 0 <= now.step <= now.total_steps
        assert now is None or not now.HasField("eta") or 0 <= now.eta.seconds <= MAX_ETA_SECONDS
    assert meter._previews == {}
