"""Progress of a task over all its candidates, told at most five times a second and never backwards."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from services.posts.clients.generator import Sketch, Step, Waiting
from services.posts.models import Preview, Progress

MIN_INTERVAL_SECONDS = 0.2
MIN_PREVIEW_INTERVAL_SECONDS = 0.5
MAX_PREVIEW_BYTES = 64 * 1024
MAX_ETA_SECONDS = 86_400.0


@dataclass
class _Candidate:
    step: int = 0
    total_steps: int = 0
    eta_ends: float | None = None
    position: int | None = None
    is_stored: bool = False


@dataclass
class ProgressMeter:
    """Adds up the candidates of one attempt.

    When all steps are done the images are still being stored; only the task's own event says that it has ended.
    """

    candidate_count: int
    _candidates: dict[int, _Candidate] = field(default_factory=dict)
    _previews: dict[int, Preview] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _told: Progress | None = None

    def stored(self, index: int) -> None:
        """The image of a candidate is stored."""
        self._candidate(index).is_stored = True
        self._changed.set()

    def report(self, index: int, event: Waiting | Step | Sketch) -> None:
        """The generator said something about a candidate."""
        candidate = self._candidate(index)
        if isinstance(event, Waiting):
            candidate.position = event.position
        elif isinstance(event, Step):
            candidate.position = None
            candidate.total_steps = min(max(event.total_steps, 1), 10_000)
            candidate.step = max(candidate.step, min(event.step, candidate.total_steps))
            eta = event.eta_seconds
            candidate.eta_ends = None if eta is None else time.monotonic() + min(max(eta, 0.0), MAX_ETA_SECONDS)
        elif len(event.data) <= MAX_PREVIEW_BYTES and event.content_type in ("image/png", "image/jpeg"):
            self._previews[index] = Preview(index, event.content_type, event.data)
        self._changed.set()

    async def tell(
        self,
        tell_progress: Callable[[Progress], Awaitable[None]],
        tell_preview: Callable[[Preview], Awaitable[None]],
    ) -> None:
        """Tell what changed, at most every MIN_INTERVAL_SECONDS, until cancelled."""
        previews_at = 0.0
        while True:
            await self._changed.wait()
            self._changed.clear()
            if now := self._next():
                self._told = now
                await tell_progress(now)
            if self._previews and time.monotonic() >= previews_at:
                previews, self._previews = self._previews, {}
                previews_at = time.monotonic() + MIN_PREVIEW_INTERVAL_SECONDS
                for preview in previews.values():
                    await tell_preview(preview)
            if self._previews:
                self._changed.set()  # too soon after the last ones: look again
            await asyncio.sleep(MIN_INTERVAL_SECONDS)

    def now(self) -> Progress | None:
        """How far the task is; None while nothing is known."""
        steps = max((c.total_steps for c in self._candidates.values()), default=0)
        if steps == 0:
            positions = [c.position for c in self._candidates.values() if c.position is not None]
            return Progress(0, 0, None, min(positions)) if positions else None
        done = sum(steps if c.is_stored else c.step for c in self._candidates.values())
        etas = [c.eta_ends for c in self._candidates.values() if c.eta_ends is not None and not c.is_stored]
        eta = max(0.0, max(etas) - time.monotonic()) if etas else None
        total = steps * self.candidate_count
        return Progress(min(done, total), total, eta, None)

    def _next(self) -> Progress | None:
        now, told = self.now(), self._told
        if now is None or told is None or told.total_steps == 0:
            return now
        is_forward = now.step * told.total_steps > told.step * now.total_steps
        return now if is_forward else None

    def _candidate(self, index: int) -> _Candidate:
        return self._candidates.setdefault(index, _Candidate())
