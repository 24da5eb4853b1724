"""One attempt of a task: its candidates at once, a heartbeat beside them, and one write that settles it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from rpc import context, errors
from services.posts.clients.generator import Capabilities, GeneratorClient
from services.posts.clients.storage import StorageClient
from services.posts.database.database import Database
from services.posts.models import Preview, Progress, TaskError
from services.posts.tasks.notify import Passing, announce
from services.posts.tasks.queue import Claim, Queue
from services.posts.worker import failures, generate, initial_image
from services.posts.worker.generate import Order, Patience, Picture
from services.posts.worker.progress import ProgressMeter

log = logging.getLogger(__name__)

T = TypeVar("T")

_AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class Terms:
    """How attempts are made; times in seconds."""

    lease: float
    patience: Patience
    store: float
    retry_base: float
    retry_cap: float
    preview_interval: int


class Attempt:
    """The work on one claimed task. Whatever ends it early, the lease decides what becomes of the task."""

    def __init__(
        self,
        claim: Claim,
        queue: Queue,
        record: Database,
        generator: GeneratorClient,
        storage: StorageClient,
        terms: Terms,
        on_slot_free: Callable[[], None],
        capabilities: Capabilities,
    ) -> None:
        """`on_slot_free` is called when the generator is done with an image, before it is stored.

        `capabilities`: what the generator said of itself just now.
        """
        self.claim = claim
        self._queue = queue
        self._record = record
        self._generator = generator
        self._storage = storage
        self._terms = terms
        self._on_slot_free = on_slot_free
        self._capabilities = capabilities
        self._meter = ProgressMeter(claim.task.parameters.candidate_count)
        self._doubt = asyncio.Event()
        for image in claim.task.images:
            self._meter.stored(image.index)
        self.held_slots = len(self.missing)

    @property
    def missing(self) -> list[int]:
        """The candidates that have no image yet."""
        stored = {image.index for image in self.claim.task.images}
        return [i for i in range(self.claim.task.parameters.candidate_count) if i not in stored]

    def check_lease(self) -> None:
        """The task may be another's now, or nobody's: look at once."""
        self._doubt.set()

    async def run(self) -> float:
        """Work until the task is settled or lost. Seconds for which the generator asks to be left alone, else 0."""
        context.request_id.set(str(self.claim.task.id))
        context.set_remaining_seconds(None)
        work = asyncio.create_task(self._work())
        beat = asyncio.create_task(self._keep_lease())
        tell = asyncio.create_task(self._meter.tell(self._tell, self._tell))
        try:
            await asyncio.wait({work, beat}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            log.info("the task is not ours any more")
            return 0.0
        finally:
            for task in (work, beat, tell):
                task.cancel()
            await asyncio.gather(work, beat, tell, return_exceptions=True)

    async def _work(self) -> float:
        try:
            order = await self._order()
        except failures.AttemptFailed as failed_early:
            await self._fail(failed_early.error)
            return 0.0
        outcomes = await asyncio.gather(*(self._candidate(i, order) for i in self.missing), return_exceptions=True)
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        busy = [error.retry_after_seconds for error in failed if isinstance(error, failures.GeneratorBusy)]
        found = [failures.describe(error) for error in failed if not isinstance(error, failures.GeneratorBusy)]
        if found:
            await self._fail(min(found, key=lambda error: error.will_retry))
        elif busy:
            await self._persistently(lambda: self._queue.give_back(self.claim, max(busy)))
        else:
            await self._persistently(lambda: self._queue.finish(self.claim))
            log.info("task done", extra={"images": len(outcomes)})
        return max(busy, default=0.0)

    async def _fail(self, error: TaskError) -> None:
        attempt = self.claim.task.attempt_count
        delay = failures.backoff_seconds(attempt, self._terms.retry_base, self._terms.retry_cap)
        log.warning("attempt failed", extra={"attempt": attempt, "reason": error.reason, "detail": error.message})
        await self._persistently(lambda: self._queue.fail_attempt(self.claim, error, delay))

    async def _order(self) -> Order:
        """What to ask of the generator, with the picture to begin from. Raises AttemptFailed."""
        wanted = self.claim.task.parameters
        if wanted.initial_image is None:
            return Order(wanted)
        model = self._capabilities.model(wanted.model)
        initial_image.check_model(model)
        initial = wanted.initial_image
        mask = await self._persistently(lambda: self._queue.mask(self.claim)) if initial.mask_sha256 else b""
        source = await self._patiently(lambda: initial_image.read(self._storage, initial, mask))
        return Order(initial_image.in_shape(wanted, source, model), source)

    async def _candidate(self, index: int, order: Order) -> None:
        try:
            picture = await generate.paint(
                self._generator,
                self.claim.task,
                index,
                self._terms.preview_interval,
                self._terms.patience,
                lambda event: self._meter.report(index, event),
                order,
            )
        except errors.RpcError as error:
            raise failures.of_generator(error) from error
        finally:
            self.held_slots -= 1
            self._on_slot_free()
        await self._store(index, picture)
        self._meter.stored(index)

    async def _store(self, index: int, picture: Picture) -> None:
        """Store and record a picture; patiently, because painting it again costs more than waiting."""
        image = await self._patiently(lambda: generate.store(self._storage, self.claim.task, index, picture))
        await self._persistently(lambda: self._queue.add_image(self.claim, image))

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What storage answers, asked again while it is away, for a while. Raises AttemptFailed."""
        ends = time.monotonic() + self._terms.store
        pause = self._terms.retry_base / 4
        while True:
            try:
                return await ask()
            except errors.RpcError as error:
                is_hopeless = isinstance(error, errors.InvalidArgument) or time.monotonic() + pause > ends
                if is_hopeless:
                    raise failures.of_storage(error) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    async def _persistently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the database answers, once it is back. A write lost in its commit changes nothing the second time."""
        while True:
            try:
                return await ask()
            except (errors.Unavailable, errors.Aborted) as error:
                log.warning("asking the database again soon: %s", error.message)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _keep_lease(self) -> None:
        """Beat until the lease is lost."""
        pause = self._terms.lease / 3
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._doubt.wait()
            self._doubt.clear()
            try:
                if not await self._queue.beat(self.claim):
                    return
                pause = self._terms.lease / 3
            except (errors.Unavailable, errors.Aborted):
                # Whoever sweeps after an outage gives us the time of a beat.
                pause = min(_AGAIN_SECONDS, pause)

    async def _tell(self, what: Progress | Preview) -> None:
        await announce(self._record, Passing(self.claim.task.id, self.claim.task.attempt_count, what))
