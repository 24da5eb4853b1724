"""The engine thread: paints all admitted requests step by step; they join and leave batches between steps.

Jobs that may share a step (same model and size) form a group; the group that has had the least time steps next, so no
size starves another. A job that is cancelled leaves before the next step and is never decoded.

Opening a request is mostly the CPU's work. On a device of its own a step runs meanwhile: an image gives its slot back
when its last step begins, so that who comes after it is opened beside that step and the device need not wait.
"""

import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from services.generator.engine import Engine, InvalidImage, Sample
from services.generator.images import png
from services.generator.models import Image, ImageRequest, ImageSource, Painting, Preview, Progress
from services.generator.scheduling.failures import attempt, image_invalid
from services.generator.scheduling.request_queue import Job, RequestQueue

PROGRESS_INTERVAL_SECONDS = 0.1
# A rest shorter than this is not worth being interrupted for.
_REST_SECONDS = 0.001


@dataclass(eq=False)
class StepGroup:
    """The jobs that share steps, and how much time they have had."""

    jobs: list[Job] = field(default_factory=list)
    served_seconds: float = 0.0


class EngineThread:
    """Everything that happens on the engine thread after the warm-up."""

    def __init__(self, engine: Engine, line: RequestQueue, encoder: Executor, decode_chunk: int) -> None:
        """Admit from `line`, compute with `engine`, encode with `encoder`."""
        self._engine = engine
        self._queue = line
        self._encoder = encoder
        self._decode_chunk = decode_chunk
        self._groups: dict[Hashable, StepGroup] = {}
        self._with_picture: list[Job] = []
        self._finished: list[Job] = []
        self._busy_since: float | None = None

    @property
    def busy_seconds(self) -> float:
        """How long the call of the engine in progress has lasted; 0 when none is. For the watchdog, any thread."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def jobs(self) -> list[Job]:
        """The admitted jobs."""
        stepping = (job for group in list(self._groups.values()) for job in group.jobs)
        return [*self._with_picture, *stepping, *self._finished]

    def run(self) -> None:
        """Work until the line stops. Raises DeviceLost when the device does not answer sensibly any more."""
        while not self._queue.stopping:
            if not (self._with_picture or self._groups or self._finished) and not self._queue.wait():
                return
            self._turn()

    def _turn(self) -> None:
        self._drop_cancelled()
        # To open a request takes about as long as a step. Who came meanwhile joins before the step, not after it.
        while self._admit():
            pass
        self._open_picture()
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
        for job in [job for job in self._with_picture if job.cancelled]:
            self._with_picture.remove(job)
            self._release(job)
        for job in [job for job in self._finished if job.cancelled]:
            self._finished.remove(job)
            job.sample = None

    def _release(self, job: Job) -> None:
        job.sample = None
        self._queue.release()

    def _admit(self) -> bool:
        """Open those that may start; whether there were any."""
        arrivals: dict[Hashable, list[Job]] = {}
        for job in self._queue.admit(self._ready):
            if job.cancelled:
                self._release(job)
            elif job.request.initial_image:
                self._with_picture.append(job)
            else:
                arrivals.setdefault(self._engine.batch_key(job.request), []).append(job)
        for jobs in arrivals.values():
            self._open(jobs)
        return bool(arrivals)

    def _open_picture(self) -> None:
        """Open one of those that begin from a picture: nobody's next step waits for more than one to be encoded."""
        if self._with_picture:
            self._open(self._with_picture[:1])
            del self._with_picture[0]

    def _open(self, jobs: Sequence[Job]) -> None:
        opened = self._watched(lambda some: self._engine.prepare([job.request for job in some]), jobs)
        for job, sample in zip(jobs, opened, strict=True):
            if isinstance(sample, Exception):
                job.events.fail(sample)
                self._release(job)
            else:
                job.sample, job.started = sample, time.monotonic()
                self._group(sample.batch_key).jobs.append(job)

    def _ready(self, waiting: Sequence[ImageRequest]) -> Sequence[bool]:
        return self._engine.ensure_loaded(waiting, [job.request for job in self.jobs()], self._queue.wake)

    def _group(self, key: Hashable) -> StepGroup:
        if key not in self._groups:
            # A new group starts level with the one that has had least: it has no claim on time before it came.
            least = min((group.served_seconds for group in self._groups.values()), default=0.0)
            self._groups[key] = StepGroup(served_seconds=least)
        return self._groups[key]

    def _step(self, key: Hashable, group: StepGroup) -> None:
        jobs = group.jobs
        begin = time.monotonic()

        def work(some: Sequence[Job]) -> list[None]:
            self._engine.step([_sample(job) for job in some])
            return [None] * len(some)

        results = self._watched(work, jobs)
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
            else:  # another model may take over now
                (group if _sample(job).batch_key == key else self._group(_sample(job).batch_key)).jobs.append(job)
        self._settle(begin)
        now = time.monotonic()
        group.served_seconds += now - begin
        for job in stepped:
            self._tell(job, now)

    def _settle(self, begin: float) -> None:
        """Wait until the device is done with the step; who comes meanwhile is opened beside it."""
        while (remaining := self._engine.remaining_seconds()) > _REST_SECONDS:
            if not self._admit():
                self._queue.wait(remaining - _REST_SECONDS)
        self._busy_since = begin
        self._engine.wait()
        self._busy_since = None

    def _tell(self, job: Job, now: float) -> None:
        finished = _is_finished(job)
        if not finished and now - job.last_progress < PROGRESS_INTERVAL_SECONDS:
            return
        job.last_progress = now
        done, total = _sample(job).steps_done, _sample(job).total_steps
        job.events.put(Progress(done, total, (now - job.started) / done * (total - done)))
        interval = job.request.preview_interval
        if interval and not finished and done - job.last_preview_step >= interval:
            job.last_preview_step = done
            (pixels,) = attempt(lambda some: [self._engine.preview(_sample(job))], [job], self._engine.recover)
            if not isinstance(pixels, Exception):  # a preview that fails is only not sent
                self._encoder.submit(_send_preview, job, pixels)

    def _decode(self) -> None:
        """Decode some of the finished images: little enough not to hold up the steps of the others.

        No more than a batch of them is left for later.
        """
        self._drop_cancelled()
        while self._finished:
            self._decode_some()
            if len(self._finished) <= self._queue.slots:
                return

    def _decode_some(self) -> None:
        batch_key = _sample(self._finished[0]).batch_key
        same = [job for job in self._finished if _sample(job).batch_key == batch_key]
        jobs = same[: self._decode_chunk]
        results = self._watched(lambda some: self._engine.decode([_sample(job) for job in some]), jobs)
        for job, pixels in zip(jobs, results, strict=True):
            self._finished.remove(job)
            job.sample = None
            if isinstance(pixels, InvalidImage):
                job.events.fail(image_invalid(str(pixels)))
            elif isinstance(pixels, Exception):
                job.events.fail(pixels)
            else:
                self._queue.note_duration(time.monotonic() - job.started)
                self._encoder.submit(_send_image, job, pixels, self._painting(job))

    def _watched(self, work: Any, jobs: Sequence[Job]) -> Any:
        self._busy_since = time.monotonic()
        try:
            return attempt(work, jobs, self._engine.recover)
        finally:
            self._busy_since = None

    def _painting(self, job: Job) -> Painting:
        request = job.request
        model = next(model for model in self._engine.models if model.id == request.model)
        return Painting(
            seed=request.seed,
            model=request.model,
            model_revision=model.revision,
            scheduler=request.scheduler,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            batch_size=job.batch_size,
            loras=request.loras,
            guidance_end=request.guidance_end,
            refiner=request.refiner,
            refiner_revision=model.refiner_revision if request.refiner else "",
            denoising_end=request.denoising_end,
            initial_image=request.initial_image.used if request.initial_image else None,
        )


def _sample(job: Job) -> Sample:
    assert job.sample is not None
    return job.sample


def _is_finished(job: Job) -> bool:
    return _sample(job).steps_done >= _sample(job).total_steps


def _send_preview(job: Job, pixels: Any) -> None:
    height, width, _ = pixels.shape
    job.events.put(Preview(*png.encode_preview(pixels), width, height))


def _send_image(job: Job, pixels: Any, painting: Painting) -> None:
    try:
        data = png.encode_png(pixels)
    except Exception as error:
        job.events.fail(error)
        return
    height, width, _ = pixels.shape
    job.events.put(Image("image/png", data, width, height, ImageSource.GENERATED, painting=painting))
