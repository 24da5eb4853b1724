"""Limits how far the CPU runs ahead of the device."""

import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch

# A longer step is awaited before the next is launched: the gap does not matter, and a cancel takes effect at the next
# step. A shorter step is launched while the one before still runs.
_LONG_STEP_SECONDS = 0.02
# The share of the time of the last step of the same kind that a step certainly takes.
_CERTAIN = 0.9
_MOST_KINDS = 1000


class DeviceEvent(Protocol):
    """A point in the work queue of the device; torch.cuda.Event is one."""

    def query(self) -> bool:
        """Whether the device has reached it."""

    def synchronize(self) -> None:
        """Wait until the device has reached it."""


class DeviceSync:
    """Records each step that is launched on the device, and waits for it.

    Without it the CPU would run many steps ahead: progress would be reported too early, and a cancel would take effect
    late.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is running."""
        self._clock = clock
        self._steps: deque[tuple[DeviceEvent, Hashable, float]] = deque()
        self._seconds: dict[Hashable, float] = {}
        self._last_end = 0.0

    def launched(self, mark: DeviceEvent, kind: Hashable) -> None:
        """Record a step that ends at `mark`. Steps of the same `kind` take about as long."""
        self._steps.append((mark, kind, self._clock()))

    def remaining_seconds(self) -> float:
        """Lower bound of the time that `wait` would take, from steps of the same kind; 0 if it may not wait."""
        if not self._must_wait():
            return 0.0
        mark, kind, begin = self._steps[0]
        end = max(begin, self._last_end) + _CERTAIN * self._seconds.get(kind, 0.0)
        return 0.0 if mark.query() else max(0.0, end - self._clock())

    def wait(self) -> None:
        """Wait until the device has done its steps; one short step may still be running."""
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
    """Copy a CPU tensor to `device` without waiting for it: the copy is done before the next work on the device.

    A plain `.to` would wait for all work on the device, a whole denoising step.
    """
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    # From pageable memory CUDA may wait.
    return tensor.pin_memory().to(device, non_blocking=True)
