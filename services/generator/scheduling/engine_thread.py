"""The engine thread: runs all admitted requests step by step. They join and leave batches between steps.

Jobs with the same batch key (model and size) form a group. The group that has had the least time does the next step, so
that no size starves another. A cancelled job leaves before the next step and is never decoded.

To prepare a request is mostly work of the CPU. With a GPU a step runs at the same time: an image gives its slot back
when its last step begins, so that the next request is prepared beside that step and the GPU does not wait.
"""

import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from frontispiece.types.v1 import generation_pb2 as types

from services.generator.engine import Engine, InvalidImage, Sample
from services.generator.images import png
from services.generator.models import Image, ImageRequest, Preview, Progress
from services.generator.scheduling.failures import image_invalid, run_isolated
from services.generator.scheduling.request_queue import Job, RequestQueue

PROGRESS_INTERVAL_SECONDS = 0.1
# A shorter wait for the device is not interrupted to admit requests.
_SHORT_WAIT_SECONDS = 0.001


@dataclass(eq=False)
class StepGroup:
    """The jobs that share steps, and the time that they have had."""

    jobs: list[Job] = field(default_factory=list)
    served_seconds: float = 0.0


class EngineThread:
    """All that happens on the engine thread after the warm-up."""

    def __init__(self, engine: Engine, queue: RequestQueue, encoder: Executor, decode_chunk: int) -> None:
        """Admit from `queue`, compute with `engine`, encode with `encoder`."""
        self._engine = engine
        self._queue = queue
        self._encoder = encoder
        self._decode_chunk = decode_chunk
        self._groups: dict[Hashable, StepGroup] = {}
        self._with_initial_image: list[Job] = []
        self._finished: list[Job] = []
        self._busy_since: float | None = None

    @property
    def busy_seconds(self) -> float:
        """Duration of the current call of the engine; 0 without one. For the watchdog, on any thread."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def jobs(self) -> list[Job]:
        """The admitted jobs."""
        stepping = (job for group in list(self._groups.values()) for job in group.jobs)
        return [*self._with_initial_image, *stepping, *self._finished]

    def run(self) -> None:
        """Work until the queue stops. Raises DeviceLost."""
        while not self._queue.stopping:
            if not (self._with_initial_image or self._groups or self._finished) and not self._queue.wait():
                return
            self._turn()

    def _turn(self) -> None:
        self._drop_cancelled()
        # To prepare a request takes about as long as a step. Requests that arrive meanwhile join before the step.
        while self._admit():
            pass
        self._prepare_with_initial_image()
        self._queue.in_memory = self._engine.in_memory()
        if self._groups:
            key, group = min(self._groups.items(), key=lambda item: item[1].served_seconds)
            self._step(key, group)
            if not group.jobs:
                del self._groups[key]
        self._decode()

    def _drop_cancelled(self) -> None:
        for key, group in list(self._groups.items()):
            for job in [job for job in group.jobs if job.cancelled]:
                group.jobs.remove(job)
                self._release(job)
            if not group.jobs:
                del self._groups[key]
        for job in [job for job in self._with_initial_image if job.cancelled]:
            self._with_initial_image.remove(job)
            self._release(job)
        for job in [job for job in self._finished if job.cancelled]:
            self._finished.remove(job)
            job.sample = None

    def _release(self, job: Job) -> None:
        job.sample = None
        self._queue.release()

    def _admit(self) -> bool:
        """Admit and prepare the requests that may start. Returns whether there were any."""
        arrivals: dict[Hashable, list[Job]] = {}
        for job in self._queue.admit(self._could_start):
            if job.cancelled:
                self._release(job)
            elif job.request.initial_image:
                self._with_initial_image.append(job)
            else:
                arrivals.setdefault(self._engine.batch_key(job.request), []).append(job)
        for jobs in arrivals.values():
            self._prepare(jobs)
        return bool(arrivals)

    def _could_start(self, waiting: Sequence[ImageRequest]) -> Sequence[bool]:
        return self._engine.ensure_loaded(waiting, [job.request for job in self.jobs()], self._queue.wake)

    def _prepare_with_initial_image(self) -> None:
        """Prepare one job with an initial image: a step is never delayed by the encoding of more than one."""
        if self._with_initial_image:
            self._prepare(self._with_initial_image[:1])
            del self._with_initial_image[0]

    def _prepare(self, jobs: Sequence[Job]) -> None:
        samples = self._call(lambda some: self._engine.prepare([job.request for job in some]), jobs)
        for job, sample in zip(jobs, samples, strict=True):
            if isinstance(sample, Exception):
                job.events.fail(sample)
                self._release(job)
            else:
                job.sample, job.started = sample, time.monotonic()
                self._group(sample.batch_key).jobs.append(job)

    def _group(self, key: Hashable) -> StepGroup:
        if key not in self._groups:
            # A new group starts level with the one that has had the least time, with no claim on time before it came.
            least = min((group.served_seconds for group in self._groups.values()), default=0.0)
            self._groups[key] = StepGroup(served_seconds=least)
        return self._groups[key]

    def _step(self, key: Hashable, group: StepGroup) -> None:
        jobs = group.jobs
        begin = time.monotonic()

        def work(some: Sequence[Job]) -> list[None]:
            self._engine.step([_sample(job) for job in some])
            return [None] * len(some)

        results = self._call(work, jobs)
        stepped = []
        group.jobs = []
        for job, failure in zip(jobs, results, strict=True):
            if failure is not None:
                job.events.fail(failure)
                self._release(job)
                continue
            stepped.append(job)
            job.batch_size = max(job.batch_size, len(jobs))
            if _is_finished(job):
                self._finished.append(job)
                self._queue.release()
            else:  # the refiner may take over now
                (group if _sample(job).batch_key == key else self._group(_sample(job).batch_key)).jobs.append(job)
        self._await_device(begin)
        now = time.monotonic()
        group.served_seconds += now - begin
        for job in stepped:
            self._report_progress(job, now)

    def _await_device(self, begin: float) -> None:
        """Wait until the device is done with the step, and meanwhile prepare the requests that arrive."""
        while (remaining := self._engine.remaining_seconds()) > _SHORT_WAIT_SECONDS:
            if not self._admit():
                self._queue.wait(remaining - _SHORT_WAIT_SECONDS)
        self._busy_since = begin
        self._engine.wait()
        self._busy_since = None

    def _report_progress(self, job: Job, now: float) -> None:
        finished = _is_finished(job)
        if not finished and now - job.last_progress < PROGRESS_INTERVAL_SECONDS:
            return
        job.last_progress = now
        done, total = _sample(job).steps_done, _sample(job).total_steps
        job.events.put(Progress(done, total, (now - job.started) / done * (total - done)))
        interval = job.request.preview_interval
        if interval and not finished and done - job.last_preview_step >= interval:
            job.last_preview_step = done
            (pixels,) = run_isolated(lambda some: [self._engine.preview(_sample(job))], [job], self._engine.recover)
            if not isinstance(pixels, Exception):  # a preview that fails is not sent
                self._encoder.submit(_send_preview, job, pixels)

    def _decode(self) -> None:
        """Decode finished images: few enough not to delay the steps of the others, but all except one batch."""
        self._drop_cancelled()
        while self._finished:
            self._decode_chunk_of_images()
            if len(self._finished) <= self._queue.slots:
                return

    def _decode_chunk_of_images(self) -> None:
        batch_key = _sample(self._finished[0]).batch_key
        same = [job for job in self._finished if _sample(job).batch_key == batch_key]
        jobs = same[: self._decode_chunk]
        results = self._call(lambda some: self._engine.decode([_sample(job) for job in some]), jobs)
        for job, pixels in zip(jobs, results, strict=True):
            self._finished.remove(job)
            job.sample = None
            if isinstance(pixels, InvalidImage):
                job.events.fail(image_invalid(pixels))
            elif isinstance(pixels, Exception):
                job.events.fail(pixels)
            else:
                self._queue.record_duration(time.monotonic() - job.started)
                model = next(model for model in self._engine.models if model.id == job.request.model)
                self._encoder.submit(_send_image, job, pixels, job.request.generation(model, job.batch_size))

    def _call(self, work: Any, jobs: Sequence[Job]) -> Any:
        self._busy_since = time.monotonic()
        try:
            return run_isolated(work, jobs, self._engine.recover)
        finally:
            self._busy_since = None


def _sample(job: Job) -> Sample:
    assert job.sample is not None
    return job.sample


def _is_finished(job: Job) -> bool:
    return _sample(job).steps_done >= _sample(job).total_steps


def _send_preview(job: Job, pixels: Any) -> None:
    height, width, _ = pixels.shape
    job.events.put(Preview(*png.encode_preview(pixels), width, height))


def _send_image(job: Job, pixels: Any, generation: types.Generation) -> None:
    height, width, _ = pixels.shape
    try:
        image = Image.of(png.encode_png(pixels), "image/png", (width, height), generation)
    except Exception as error:
        job.events.fail(error)
        return
    job.events.put(image)
