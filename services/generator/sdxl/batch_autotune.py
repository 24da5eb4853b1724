"""Chooses the batch size: measures at the start, on this machine, with the default model."""

import logging
import time
from collections.abc import Callable

from services.generator.engine import Engine, OutOfMemory
from services.generator.models import ImageRequest

log = logging.getLogger(__name__)

_LARGEST = {"cpu": 8, "cuda": 16}
_WORTHWHILE_GAIN = 1.04
_STEPS = 2
# A start should take seconds: batches that do not fit into this time are not tried.
_BUDGET_SECONDS = {"cpu": 3.0, "cuda": 20.0}


def choose_batch_size(engine: Engine, make_request: Callable[[int], ImageRequest]) -> int:
    """The batch size beyond which the throughput grows by less than 4 %. Larger batches only delay every image."""
    best, best_rate, table = 1, 0.0, {}
    size, begin = 1, time.monotonic()
    while size <= _LARGEST[engine.device]:
        try:
            seconds = _time_step(engine, [make_request(seed) for seed in range(size)])
        except OutOfMemory:
            engine.recover()
            break
        rate = size / seconds
        table[size] = round(seconds * 1e3, 1)
        if rate > best_rate * _WORTHWHILE_GAIN:
            best, best_rate = size, rate
        size *= 2
        if time.monotonic() - begin + 2 * (1 + _STEPS) * seconds > _BUDGET_SECONDS[engine.device]:
            break
    log.info("batch size chosen", extra={"images": best, "ms_per_step": table})
    return best


def _time_step(engine: Engine, requests: list[ImageRequest]) -> float:
    """The shortest of a few steps, in seconds: other processes can only make a step longer."""
    samples = engine.prepare(requests)
    engine.step(samples)
    engine.wait()
    times = []
    for _ in range(_STEPS):
        begin = time.perf_counter()
        engine.step(samples)
        engine.wait()
        times.append(time.perf_counter() - begin)
    return min(times)
