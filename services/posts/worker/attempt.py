"""One attempt of a task: its candidates in parallel, heartbeats meanwhile, and one write that ends it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from frontispiece.generator.v1 import generator_pb2
from frontispiece.posts.v1 import tasks_pb2 as t

from rpc import context, errors
from rpc.backoff import Backoff, retry, sleep
from services.posts.clients.generator import GeneratorClient, find_model
from services.posts.clients.storage import StorageClient
from services.posts.database.database import Database
from services.posts.tasks.notify import EphemeralEvent, notify
from services.posts.tasks.queue import Claim, Queue
from services.posts.worker import failures, generate, initial_image
from services.posts.worker.generate import GeneratedImage, GenerateInput, Timeouts
from services.posts.worker.progress import ProgressMeter
from services.posts.worker.settings import WorkerSettings

log = logging.getLogger(__name__)

T = TypeVar("T")

_DATABASE_AGAIN = Backoff(base_seconds=0.2, max_seconds=2.0, jitter="equal")


@dataclass(frozen=True)
class AttemptPolicy:
    """How tasks are executed. Times in seconds."""

    poll_seconds: float
    dispatch_ahead: int
    lease_seconds: float
    store_seconds: float
    timeouts: Timeouts
    retry: Backoff
    preview_interval: int

    @classmethod
    def of(cls, settings: WorkerSettings) -> "AttemptPolicy":
        """The policy in the settings of a worker."""
        return cls(
            poll_seconds=settings.poll_seconds,
            dispatch_ahead=settings.dispatch_ahead,
            lease_seconds=settings.lease_seconds,
            store_seconds=settings.store_timeout_seconds,
            timeouts=Timeouts(
                settings.step_timeout_seconds, settings.queue_timeout_seconds, settings.attempt_timeout_seconds
            ),
            # Equal jitter: with full jitter a task might spend all its attempts within a moment.
            retry=Backoff(settings.retry_base_seconds, settings.retry_cap_seconds, jitter="equal"),
            preview_interval=settings.preview_interval,
        )


@dataclass(frozen=True)
class Leaves:
    """What an attempt uses beside its generator."""

    queue: Queue
    database: Database
    storage: StorageClient


class Attempt:
    """The execution of one claimed task. If it ends early, the lease decides what happens to the task."""

    def __init__(
        self,
        claim: Claim,
        generator: GeneratorClient,
        capabilities: generator_pb2.GetCapabilitiesResponse,
        leaves: Leaves,
        policy: AttemptPolicy,
        on_slot_free: Callable[[], None],
    ) -> None:
        """`on_slot_free` is called when the generator has finished an image, before the image is stored."""
        self.claim = claim
        self.held_slots = len(claim.missing)
        self._generator = generator
        self._capabilities = capabilities
        self._leaves = leaves
        self._policy = policy
        self._on_slot_free = on_slot_free
        self._meter = ProgressMeter(claim.task.candidate_count)
        self._lease_in_doubt = asyncio.Event()
        for image in claim.task.images:
            self._meter.stored(image.index)

    def check_lease(self) -> None:
        """The lease may have ended: send a heartbeat at once."""
        self._lease_in_doubt.set()

    async def run(self) -> float:
        """Work until the task has ended or the lease is lost.

        Returns the seconds for which the generator asks for no more requests, 0 if it does not.
        """
        context.request_id.set(self.claim.task.id)
        context.set_remaining_seconds(None)
        work = asyncio.create_task(self._work())
        heartbeats = asyncio.create_task(self._heartbeats())
        report = asyncio.create_task(self._meter.report(self._notify))
        try:
            await asyncio.wait({work, heartbeats}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            log.info("the lease was lost")
            return 0.0
        finally:
            for task in (work, heartbeats, report):
                task.cancel()
            await asyncio.gather(work, heartbeats, report, return_exceptions=True)

    async def _work(self) -> float:
        try:
            given = await self._input()
        except failures.AttemptFailed as failed_early:
            await self._fail(failed_early.error)
            return 0.0
        candidates = (self._candidate(i, given) for i in self.claim.missing)
        outcomes = await asyncio.gather(*candidates, return_exceptions=True)
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        busy = [error.retry_after_seconds for error in failed if isinstance(error, failures.GeneratorBusy)]
        found = [failures.describe(error) for error in failed if not isinstance(error, failures.GeneratorBusy)]
        if found:
            await self._fail(min(found, key=lambda error: error.will_retry))
        elif busy:
            await self._in_database(lambda: self._leaves.queue.release(self.claim, max(busy)))
        else:
            await self._in_database(lambda: self._leaves.queue.finish(self.claim))
            log.info("task done", extra={"images": len(outcomes)})
        return max(busy, default=0.0)

    async def _fail(self, error: t.TaskError) -> None:
        attempt = self.claim.task.attempt_count
        delay = self._policy.retry.delay(attempt)
        log.warning("attempt failed", extra={"attempt": attempt, "reason": error.reason, "detail": error.message})
        await self._in_database(lambda: self._leaves.queue.fail_attempt(self.claim, error, delay))

    async def _input(self) -> GenerateInput:
        """What to send to the generator. Raises AttemptFailed."""
        parameters = self.claim.task.parameters
        if not parameters.HasField("initial_image"):
            return GenerateInput(parameters)
        key, mask = parameters.initial_image.key, b""
        if parameters.initial_image.has_mask:
            mask = await self._in_database(lambda: self._leaves.queue.mask(self.claim))
        source = await self._in_storage(lambda: initial_image.read(self._leaves.storage, key))
        model = find_model(self._capabilities, parameters.model)
        return GenerateInput(initial_image.parameters(parameters, source, mask, model), source.data)

    async def _candidate(self, index: int, given: GenerateInput) -> None:
        previews = any(model.previews for model in self._capabilities.models)
        request = given.request(self.claim.task.id, index, self._policy.preview_interval if previews else 0)
        try:
            image = await generate.generate(
                self._generator, request, self._policy.timeouts, lambda event: self._meter.update(index, event)
            )
        except errors.RpcError as error:
            raise failures.of_generator(error) from error
        finally:
            self.held_slots -= 1
            self._on_slot_free()
        await self._store(index, image)
        self._meter.stored(index)

    async def _store(self, index: int, image: GeneratedImage) -> None:
        """Store the image and add it to the task. Repeated for long, because generating it again costs more."""
        stored = await self._in_storage(lambda: generate.store(self._leaves.storage, self.claim.task, index, image))
        await self._in_database(lambda: self._leaves.queue.add_image(self.claim, stored))

    async def _in_storage(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of a call to storage, repeated for `store_seconds` while it fails. Raises AttemptFailed."""
        try:
            return await retry(
                call,
                Backoff(self._policy.retry.base_seconds / 2, 5.0, jitter="equal"),
                timeout_seconds=self._policy.store_seconds,
                is_retryable=lambda error: not isinstance(error, errors.InvalidArgument),
            )
        except errors.RpcError as error:
            raise failures.of_storage(error) from error

    async def _in_database(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of a call to the database, repeated until it answers.

        A write whose commit was not confirmed changes nothing the second time.
        """
        return await retry(
            call,
            _DATABASE_AGAIN,
            is_retryable=lambda error: isinstance(error, errors.Unavailable | errors.Aborted),
            on_retry=lambda error, _: log.warning("trying the database again: %s", error.message),
        )

    async def _heartbeats(self) -> None:
        """Extend the lease until it is lost."""
        interval = pause = self._policy.lease_seconds / 3
        while True:
            await sleep(pause, self._lease_in_doubt)
            self._lease_in_doubt.clear()
            try:
                if not await self._leaves.queue.heartbeat(self.claim):
                    return
                pause = interval
            except (errors.Unavailable, errors.Aborted):
                # After an outage, maintenance waits before it ends leases, so that this heartbeat comes first.
                pause = min(_DATABASE_AGAIN.delay(1), interval)

    async def _notify(self, event: t.TaskProgress | t.TaskPreview) -> None:
        task = self.claim.task
        await notify(self._leaves.database, EphemeralEvent(self.claim.id, task.attempt_count, event))
