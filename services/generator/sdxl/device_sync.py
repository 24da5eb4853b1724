"""How far the CPU may run ahead of the device."""

import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch

# Steps longer than this are waited for one by one: the gap until the next is launched is not felt, and a cancel takes
# effect at the next boundary. Shorter ones are launched while the one before still runs.
_LONG_STEP_SECONDS = 0.02
# Of the time that a step of this kind took before, so much is certainly not over before the step is.
_CERTAIN = 0.9
_MOST_KINDS = 1000


class DeviceEvent(Protocol):
    """A place in what the device has been given to do; torch.cuda.Event is one."""

    def query(self) -> bool:
        """Whether the device has come there."""

    def synchronize(self) -> None:
        """Wait until it has."""


class DeviceSync:
    """Keeps a note of each step that a device was given, and waits for them.

    Without it the CPU would run many steps ahead: progress would be a promise, and a cancel come late.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is running."""
        self._clock = clock
        self._steps: deque[tuple[DeviceEvent, Hashable, float]] = deque()
        self._seconds: dict[Hashable, float] = {}
        self._last_end = 0.0

    def launched(self, mark: DeviceEvent, kind: Hashable) -> None:
        """The device was given a step that ends at `mark`; steps of the same kind take about as long."""
        self._steps.append((mark, kind, self._clock()))

    def remaining_seconds(self) -> float:
        """For how long `wait` would certainly wait, as far as steps of the same kind tell; 0 when it might not."""
        if not self._must_wait():
            return 0.0
        mark, kind, begin = self._steps[0]
        end = max(begin, self._last_end) + _CERTAIN * self._seconds.get(kind, 0.0)
        return 0.0 if mark.query() else max(0.0, end - self._clock())

    def wait(self) -> None:
        """Until the device has done what it was given; of short steps, one may still be running."""
        while self._steps and (self._must_wait() or self._steps[0][0].query()):
            mark, kind, begin = self._steps.popleft()
            mark.synchronize()
            now = self._clock()
            if len(self._seconds) >= _MOST_KINDS:
                self._seconds.clear()
            self._seconds[kind] = now - max(begin, self._last_end)
            self._last_end = now

    def _must_wait(self) -> bool:
        if not self._steps:
            return False
        is_long = self._seconds.get(self._steps[-1][1], 0.0) > _LONG_STEP_SECONDS
        return is_long or len(self._steps) > 1


def to_device(tensor: torch.Tensor, device: Any) -> torch.Tensor:
    """A tensor of the CPU on `device`, there when the device comes to use it; the CPU goes on at once.

    A plain `.to` would wait until the device has done everything that it was given before, a whole denoising step.
    """
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    # From pageable memory CUDA may wait all the same.
    return tensor.pin_memory().to(device, non_blocking=True)
