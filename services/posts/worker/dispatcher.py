"""Brings queued tasks to generators: claims one when a generator has room for it, never before.

Room is a free slot, or a place among the few that wait at the generator: a slot that becomes free is taken at once by
who waits there, and not only after the image of the one before has come back, and a claim, and a call.
"""

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from rpc import errors
from services.posts.clients.generator import Capabilities, GeneratorClient
from services.posts.clients.storage import StorageClient
from services.posts.database.database import Database
from services.posts.models import TaskState
from services.posts.tasks.notify import Stored
from services.posts.tasks.queue import Claim, Queue
from services.posts.worker.attempt import Attempt, Terms

log = logging.getLogger(__name__)

_MAX_PAUSE_SECONDS = 5.0
_RELEASE_SECONDS = 3.0


class Dispatcher:
    """A lane for each generator, and the attempts in progress."""

    def __init__(
        self,
        queue: Queue,
        record: Database,
        generators: Sequence[GeneratorClient],
        storage: StorageClient,
        terms: Terms,
        poll_seconds: float,
        ahead: int,
    ) -> None:
        """`poll_seconds`: how often the queue is looked at when no notification comes.

        `ahead`: how many images may wait at each generator, beside those that it works on.
        """
        self.ahead = ahead
        self._queue = queue
        self._record = record
        self._storage = storage
        self._terms = terms
        self._attempts: dict[uuid.UUID, Attempt] = {}
        self._lanes = [_Lane(self, generator, poll_seconds) for generator in generators]
        self._lane_tasks: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Dispatch for as long as the block lasts; leaving it gives back what is in progress."""
        self._lane_tasks = [asyncio.create_task(lane.run()) for lane in self._lanes]
        try:
            yield
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Claim nothing more, stop all attempts and give their tasks back, so that others go on at once."""
        for task in self._lane_tasks:
            task.cancel()
        await asyncio.gather(*self._lane_tasks, return_exceptions=True)
        self._lane_tasks = []
        await asyncio.sleep(0)  # a task that is cancelled before its first step gives nothing back
        await asyncio.gather(*(lane.stop() for lane in self._lanes))

    def on_stored(self, stored: Stored) -> None:
        """An event was stored: look for work, or look whether an attempt still holds its task."""
        if stored.state is TaskState.QUEUED:
            self.wake_lanes()
        attempt = self._attempts.get(stored.task_id)
        if attempt and stored.state not in (None, TaskState.GENERATING):
            attempt.check_lease()

    def on_gap(self) -> None:
        """Notifications may have been missed: look for work, and whether attempts still hold their tasks."""
        self.wake_lanes()
        for attempt in self._attempts.values():
            attempt.check_lease()

    @property
    def has_free_slot(self) -> bool:
        """Whether some generator could begin at once."""
        return any(lane.has_free_slot for lane in self._lanes)

    def wake_lanes(self) -> None:
        """There may be work, or room for it."""
        for lane in self._lanes:
            lane.wake()

    async def has_due(self) -> bool:
        """Whether some task waits whose time has come."""
        return await self._queue.has_due()

    async def check_storage(self) -> None:
        """Raise the RpcError of a storage that does not answer."""
        await self._storage.check()

    async def claim(self) -> Claim | None:
        """The next task, ours now; being stopped meanwhile gives it back."""
        claiming = asyncio.ensure_future(self._queue.claim())
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with contextlib.suppress(errors.RpcError):
                if claim := await claiming:
                    await self._give_back(claim)
            raise

    def attempt(self, claim: Claim, lane: "_Lane", capabilities: Capabilities) -> Attempt:
        """An attempt at a claimed task with a lane's generator."""
        terms = self._terms if capabilities.previews else replace(self._terms, preview_interval=0)
        return Attempt(claim, self._queue, self._record, lane.generator, self._storage, terms, lane.wake, capabilities)

    async def work(self, attempt: Attempt) -> float:
        """Run an attempt; when it is stopped from outside, give its task back. Answers what Attempt.run answers."""
        task_id = attempt.claim.task.id
        self._attempts[task_id] = attempt
        try:
            return await attempt.run()
        except asyncio.CancelledError:
            await asyncio.shield(self._give_back(attempt.claim))
            raise
        finally:
            if self._attempts.get(task_id) is attempt:
                del self._attempts[task_id]

    async def _give_back(self, claim: Claim) -> None:
        with contextlib.suppress(errors.RpcError, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                if await self._queue.give_back(claim):
                    log.info("task given back", extra={"task_id": str(claim.task.id)})


class _Lane:
    """One generator: how much it has in hand of ours, and the loop that fills it."""

    def __init__(self, dispatcher: Dispatcher, generator: GeneratorClient, poll_seconds: float) -> None:
        self.generator = generator
        self._dispatcher = dispatcher
        self._poll_seconds = poll_seconds
        self._attempts: dict[Attempt, asyncio.Task[None]] = {}
        self._slot_count = 1
        self._woken = asyncio.Event()
        self._failures = 0
        self._refusals = 0
        self._refused_until = 0.0

    def wake(self) -> None:
        """There may be work, or room for it."""
        self._woken.set()

    async def stop(self) -> None:
        """Stop all attempts; each gives its task back."""
        tasks = list(self._attempts.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def has_free_slot(self) -> bool:
        """Whether the generator answers and has less of ours in hand than it can work on at once."""
        return not self._failures and not self._refusal_seconds() and self._held < self._slot_count

    @property
    def _held(self) -> int:
        return sum(attempt.held_slots for attempt in self._attempts)

    @property
    def _has_room(self) -> bool:
        if self._held < self._slot_count:
            return True
        # What waits at this generator cannot be taken by another: who has a free slot goes first.
        return self._held < self._slot_count + self._dispatcher.ahead and not self._dispatcher.has_free_slot

    async def run(self) -> None:
        """Claim and start while there is work and room; until cancelled."""
        while True:
            self._woken.clear()
            try:
                if self._has_room and not self._refusal_seconds() and await self._start_one():
                    continue
            except errors.RpcError as error:
                self._note_failure(error.message)
            except Exception:
                log.exception("dispatching broke off")
                self._failures += 1
            await self._rest()

    async def _start_one(self) -> bool:
        """Claim a task if one is due and the generator answers and has room; whether one was started."""
        if not await self._dispatcher.has_due():
            return False
        # Asked each time: no attempt is spent while a generator or storage is gone.
        capabilities = await self.generator.capabilities()
        await self._dispatcher.check_storage()
        if self._failures:
            log.info("dispatching again", extra={"target": self.generator.target})
        self._failures = 0
        self._slot_count = capabilities.slot_count
        claim = await self._dispatcher.claim() if self._has_room else None
        if claim is None:
            return False
        attempt = self._dispatcher.attempt(claim, self, capabilities)
        self._attempts[attempt] = asyncio.create_task(self._work(attempt))
        if not self._dispatcher.has_free_slot:
            self._dispatcher.wake_lanes()  # those that let this one go first
        return True

    async def _work(self, attempt: Attempt) -> None:
        try:
            asked_pause = await self._dispatcher.work(attempt)
            self._refusals = self._refusals + 1 if asked_pause else 0
            if asked_pause:
                pause = min(max(asked_pause, 0.5 * 2 ** min(self._refusals, 10)), _MAX_PAUSE_SECONDS)
                self._refused_until = time.monotonic() + pause
        except Exception:
            # The lease runs out and the task is swept: it is not lost.
            log.exception("attempt broke off", extra={"task_id": str(attempt.claim.task.id)})
        finally:
            del self._attempts[attempt]
            self.wake()

    def _note_failure(self, message: str) -> None:
        if self._failures == 0:
            log.warning("not dispatching: %s", message, extra={"target": self.generator.target})
        self._failures += 1

    def _refusal_seconds(self) -> float:
        """How long the generator, whose queue was full, is still to be left alone."""
        return max(0.0, self._refused_until - time.monotonic())

    async def _rest(self) -> None:
        """Wait for a reason to look again."""
        seconds = self._poll_seconds
        if self._failures:
            seconds = min(seconds * 2 ** min(self._failures - 1, 6), _MAX_PAUSE_SECONDS)
        if refused := self._refusal_seconds():
            await asyncio.sleep(refused)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * random.uniform(0.8, 1.2)):
                await self._woken.wait()
