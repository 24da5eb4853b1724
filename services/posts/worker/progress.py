"""Progress of a task over all its candidates, reported at most five times a second and never backwards."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from frontispiece.generator.v1.generator_pb2 import GenerateResponse, Preview, Progress
from frontispiece.posts.v1.tasks_pb2 import TaskPreview, TaskProgress
from google.protobuf.duration_pb2 import Duration

MIN_INTERVAL_SECONDS = 0.2
MIN_PREVIEW_INTERVAL_SECONDS = 0.5
MAX_PREVIEW_BYTES = 64 * 1024
MAX_ETA_SECONDS = 86_400.0
MAX_STEPS = 10_000


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

    When all steps are done the images are still being stored. Only the event of the task says that it has ended.
    """

    candidate_count: int
    _candidates: dict[int, _Candidate] = field(default_factory=dict)
    _previews: dict[int, TaskPreview] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _reported: TaskProgress | None = None

    def stored(self, index: int) -> None:
        """The image of a candidate is stored."""
        self._candidate(index).is_stored = True
        self._changed.set()

    def update(self, index: int, response: GenerateResponse) -> None:
        """The generator reported something about a candidate."""
        candidate = self._candidate(index)
        match response.WhichOneof("event"):
            case "queued":
                candidate.position = response.queued.position
            case "progress":
                _advance(candidate, response.progress)
            case "preview" if _is_acceptable(response.preview):
                preview = response.preview
                self._previews[index] = TaskPreview(index=index, content_type=preview.content_type, data=preview.data)
        self._changed.set()

    async def report(self, send: Callable[[TaskProgress | TaskPreview], Awaitable[None]]) -> None:
        """Send what has changed, at most every MIN_INTERVAL_SECONDS, until cancelled."""
        previews_at = 0.0
        while True:
            await self._changed.wait()
            self._changed.clear()
            if now := self._next():
                self._reported = now
                await send(now)
            if self._previews and time.monotonic() >= previews_at:
                previews, self._previews = self._previews, {}
                previews_at = time.monotonic() + MIN_PREVIEW_INTERVAL_SECONDS
                for preview in previews.values():
                    await send(preview)
            if self._previews:
                self._changed.set()  # too soon after the last previews: look again
            await asyncio.sleep(MIN_INTERVAL_SECONDS)

    def now(self) -> TaskProgress | None:
        """The progress of the task; None while nothing is known."""
        steps = max((c.total_steps for c in self._candidates.values()), default=0)
        if steps == 0:
            positions = [c.position for c in self._candidates.values() if c.position is not None]
            return TaskProgress(queue_position=min(positions)) if positions else None
        total = steps * self.candidate_count
        done = sum(steps if c.is_stored else c.step for c in self._candidates.values())
        ends = [c.eta_ends for c in self._candidates.values() if c.eta_ends is not None and not c.is_stored]
        eta = Duration()
        if ends:
            eta.FromMilliseconds(int(max(0.0, max(ends) - time.monotonic()) * 1000))
        return TaskProgress(step=min(done, total), total_steps=total, eta=eta if ends else None)

    def _next(self) -> TaskProgress | None:
        now, reported = self.now(), self._reported
        if now is None or reported is None or reported.total_steps == 0:
            return now
        is_forward = now.step * reported.total_steps > reported.step * now.total_steps
        return now if is_forward else None

    def _candidate(self, index: int) -> _Candidate:
        return self._candidates.setdefault(index, _Candidate())


def _advance(candidate: _Candidate, progress: Progress) -> None:
    candidate.position = None
    candidate.total_steps = min(max(progress.total_steps, 1), MAX_STEPS)
    candidate.step = max(candidate.step, min(progress.step, candidate.total_steps))
    candidate.eta_ends = None
    if progress.HasField("eta"):
        seconds = progress.eta.seconds + progress.eta.nanos / 1e9
        candidate.eta_ends = time.monotonic() + min(max(seconds, 0.0), MAX_ETA_SECONDS)


def _is_acceptable(preview: Preview) -> bool:
    return len(preview.data) <= MAX_PREVIEW_BYTES and preview.content_type in ("image/png", "image/jpeg")
