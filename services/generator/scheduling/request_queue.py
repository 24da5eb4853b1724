"""The bounded queue of waiting requests: first come, first served; shared by the event loop and the engine thread.

A request whose model is still being loaded keeps its place, and later requests may overtake it. Requests for models
that are not in memory get at most half of the room, so that the others always have some.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rpc.errors import ResourceExhausted, Unavailable
from services.generator.engine import Sample
from services.generator.models import ImageRequest, Load, Queued
from services.generator.scheduling.event_buffer import EventBuffer

LOADING_RETRY_SECONDS = 5.0

Ready = Callable[[Sequence[ImageRequest]], Sequence[bool]]
"""Whether each of the waiting requests could start now. Called on the engine thread, without the lock."""


@dataclass(eq=False)
class Job:
    """One request on its way through the generator; `held` while it waits for its model and not for a slot."""

    request: ImageRequest
    events: EventBuffer
    cancelled: bool = False
    held: bool = False
    position: int = -1
    sample: Sample | None = None
    batch_size: int = 0
    started: float = 0.0
    last_progress: float = 0.0
    last_preview_step: int = 0


@dataclass
class RequestQueue:
    """The waiting jobs, and the number of jobs that are admitted to the engine."""

    capacity: int
    slots: int = 0
    in_memory: frozenset[str] = frozenset()
    """Ids of the models in memory; the engine thread replaces the set when they change."""
    _seconds_per_image: float = 1.0
    _waiting: deque[Job] = field(default_factory=deque)
    _admitted: int = 0
    _stopping: bool = False
    _changes: int = 0
    _seen: int = 0
    _wake: threading.Condition = field(default_factory=threading.Condition)

    def check_room(self) -> None:
        """Raises ResourceExhausted when the queue is full, Unavailable when the generator stops."""
        with self._wake:
            self._count_before()

    def submit(self, job: Job) -> None:
        """Queue a job. Raises what `check_room` raises, and ResourceExhausted when too many wait for models to load."""
        with self._wake:
            before = self._count_before()
            self._check_share(job)
            self._waiting.append(job)
            job.position = before - self.slots
            self._changed()
        if job.position >= 0:
            job.events.put(Queued(job.position))

    def _check_share(self, job: Job) -> None:
        if not self._must_load(job):
            return
        loading = sum(self._must_load(other) for other in self._waiting)
        if loading >= max(1, (self.slots + self.capacity) // 2):
            raise ResourceExhausted(
                f"{loading} requests already wait for models to be loaded",
                reason="QUEUE_FULL",
                retry_after_seconds=LOADING_RETRY_SECONDS,
            )

    def _must_load(self, job: Job) -> bool:
        return not self.in_memory.issuperset(job.request.models)

    def remove(self, job: Job) -> None:
        """Remove a job that still waits; no effect on an admitted one."""
        with self._wake:
            if job in self._waiting:
                self._waiting.remove(job)
                self._renumber()

    def admit(self, ready: Ready) -> list[Job]:
        """The jobs that may start now: the first that are ready, as many as there are free slots."""
        with self._wake:
            self._seen = self._changes
            waiting = list(self._waiting) if self._admitted < self.slots else []
        if not waiting:
            return []
        verdicts = ready([job.request for job in waiting])
        admitted = []
        with self._wake:
            # Some of them may have been removed meanwhile.
            for job, is_ready in zip(waiting, verdicts, strict=True):
                job.held = not is_ready
                if is_ready and self._admitted < self.slots and job in self._waiting:
                    self._waiting.remove(job)
                    self._admitted += 1
                    admitted.append(job)
            self._renumber()
        return admitted

    def release(self) -> None:
        """Free the slot of an admitted job."""
        with self._wake:
            self._admitted -= 1
            self._changed()

    def record_duration(self, seconds: float) -> None:
        """Learn how long an image takes, for the retry delay of refused requests."""
        self._seconds_per_image += 0.2 * (seconds - self._seconds_per_image)

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep until something has changed since the last `admit`, at most `seconds`.

        Returns False when the thread must end.
        """
        with self._wake:
            self._wake.wait_for(lambda: self._changes != self._seen, seconds)
            return not self._stopping

    def wake(self) -> None:
        """Report that a request that was not ready may be ready now. On any thread."""
        with self._wake:
            self._changed()

    @property
    def stopping(self) -> bool:
        """Whether the thread must end."""
        return self._stopping

    def stop(self) -> list[Job]:
        """Refuse all further jobs. Returns those that waited."""
        with self._wake:
            self._stopping = True
            left, self._waiting = list(self._waiting), deque()
            self._changed()
        return left

    def load(self) -> Load:
        """How busy the generator is."""
        with self._wake:
            held = sum(job.held for job in self._waiting)
            unfinished = len(self._waiting) - held + self._admitted
        return Load(
            slot_count=self.slots,
            free_slot_count=max(0, self.slots - unfinished),
            queue_length=max(0, unfinished - self.slots) + held,
            queue_capacity=self.capacity,
        )

    def _count_before(self) -> int:
        if self._stopping:
            raise Unavailable("the generator is stopping", reason="GENERATOR_STOPPING", retry_after_seconds=5)
        before = len(self._waiting) + self._admitted
        if before >= self.slots + self.capacity:
            raise ResourceExhausted(
                f"{before} requests are already in progress or waiting",
                reason="QUEUE_FULL",
                retry_after_seconds=max(0.5, self._seconds_per_image / max(1, self.slots)),
            )
        return before

    def _changed(self) -> None:
        self._changes += 1
        self._wake.notify()

    def _renumber(self) -> None:
        for position, job in enumerate(self._waiting):
            reported = job.position >= 0
            if (reported and position < job.position) or (not reported and job.held):
                job.position = position
                job.events.put(Queued(position))
