"""Sends queued tasks to generators. A task is claimed when a generator has room for it, never earlier.

A generator has room if it has a free slot, or if fewer than `dispatch_ahead` requests wait in its queue. A request that
waits there starts as soon as a slot is free, instead of after the image of the other request, a claim and a call.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence

from frontispiece.generator.v1 import generator_pb2
from frontispiece.posts.v1 import tasks_pb2 as t

from rpc import errors
from rpc.backoff import Backoff, Retries, jittered, sleep
from services.posts.clients.generator import GeneratorClient
from services.posts.tasks.notify import EventStored
from services.posts.tasks.queue import Claim
from services.posts.worker.attempt import Attempt, AttemptPolicy, Leaves

log = logging.getLogger(__name__)

MAX_SLOT_COUNT = 1024
_MAX_PAUSE_SECONDS = 5.0
_REFUSED = Backoff(base_seconds=0.5, max_seconds=_MAX_PAUSE_SECONDS, jitter="equal")
_RELEASE_SECONDS = 3.0


class Dispatcher:
    """One loop for each generator."""

    def __init__(self, leaves: Leaves, generators: Sequence[GeneratorClient], policy: AttemptPolicy) -> None:
        """Dispatch to `generators`."""
        self._loops: list[GeneratorSlotLoop] = []
        self._loops += [GeneratorSlotLoop(generator, leaves, policy, self._loops) for generator in generators]
        self._tasks: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Dispatch for as long as the block lasts. Leaving it releases the claimed tasks."""
        self._tasks = [asyncio.create_task(loop.run()) for loop in self._loops]
        try:
            yield
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Claim nothing more, stop all attempts and release their tasks, so that other workers continue at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await asyncio.sleep(0)  # a task that is cancelled before its first step would release nothing
        await asyncio.gather(*(loop.stop() for loop in self._loops))

    def on_stored(self, stored: EventStored) -> None:
        """An event was stored: look for work, or check whether an attempt still has its lease."""
        for loop in self._loops:
            if stored.state == t.TASK_STATE_QUEUED:
                loop.wake()
            if stored.state not in (None, t.TASK_STATE_GENERATING):
                loop.check_leases(str(stored.task_id))

    def on_gap(self) -> None:
        """Notifications may have been missed: look for work, and check all leases."""
        for loop in self._loops:
            loop.wake()
            loop.check_leases()


class GeneratorSlotLoop:
    """Keeps the slots of one generator busy."""

    def __init__(
        self,
        generator: GeneratorClient,
        leaves: Leaves,
        policy: AttemptPolicy,
        all_loops: "Sequence[GeneratorSlotLoop]",
    ) -> None:
        """`all_loops`: the loops of this worker, this one included."""
        self._generator = generator
        self._leaves = leaves
        self._policy = policy
        self._all_loops = all_loops
        self._attempts: dict[Attempt, asyncio.Task[None]] = {}
        self._slot_count = 1
        self._woken = asyncio.Event()
        self._retries = Retries(Backoff(policy.poll_seconds, _MAX_PAUSE_SECONDS, jitter="equal"))
        self._refusals = Retries(_REFUSED)
        self._refused_until = 0.0

    def wake(self) -> None:
        """There may be work, or room for it."""
        self._woken.set()

    def check_leases(self, task_id: str = "") -> None:
        """Make the attempt at a task, "" for all, check at once whether it still has its lease."""
        for attempt in self._attempts:
            if task_id in ("", attempt.claim.task.id):
                attempt.check_lease()

    async def stop(self) -> None:
        """Stop all attempts and release their tasks."""
        tasks = list(self._attempts.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def has_free_slot(self) -> bool:
        """Whether the generator answers and has fewer of our requests than it executes at once."""
        return not self._retries.failures and not self._refused_seconds() and self._held < self._slot_count

    @property
    def _held(self) -> int:
        return sum(attempt.held_slots for attempt in self._attempts)

    @property
    def _has_room(self) -> bool:
        if self._held < self._slot_count:
            return True
        # A request that waits at this generator cannot move to another one, so a loop with a free slot goes first.
        limit = self._slot_count + self._policy.dispatch_ahead
        return self._held < limit and not any(loop.has_free_slot for loop in self._all_loops)

    async def run(self) -> None:
        """Claim and start tasks while there is work and room, until cancelled."""
        while True:
            self._woken.clear()
            try:
                if self._has_room and not self._refused_seconds() and await self._start_one():
                    continue
            except errors.RpcError as error:
                await self._pause(error)
            except Exception as error:
                log.exception("dispatching failed")
                await self._pause(error)
            else:
                if refused := self._refused_seconds():
                    await asyncio.sleep(refused)
                else:
                    await sleep(jittered(self._policy.poll_seconds), self._woken)

    async def _pause(self, error: Exception) -> None:
        if not self._retries.failures:
            log.warning("not dispatching: %s", error, extra={"target": self._generator.target})
        await self._retries.sleep(self._woken)

    async def _start_one(self) -> bool:
        """Claim and start a task if one is ready and the generator has room. Returns whether one was started."""
        if not await self._leaves.queue.ready():
            return False
        # Asked each time, so that no attempt is spent while a generator or storage does not answer.
        capabilities = await self._generator.capabilities()
        await self._leaves.storage.check()
        if self._retries.failures:
            log.info("dispatching again", extra={"target": self._generator.target})
            self._retries.reset()
        self._slot_count = max(1, min(capabilities.slot_count, MAX_SLOT_COUNT))
        claim = await self._claim() if self._has_room else None
        if claim is None:
            return False
        self._start(claim, capabilities)
        if not any(loop.has_free_slot for loop in self._all_loops):
            for loop in self._all_loops:
                loop.wake()  # those that let this one go first
        return True

    async def _claim(self) -> Claim | None:
        """Claim the next task. If this loop is cancelled meanwhile, the task is released."""
        claiming = asyncio.ensure_future(self._leaves.queue.claim())
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with contextlib.suppress(errors.RpcError):
                if claim := await claiming:
                    await self._release(claim)
            raise

    def _start(self, claim: Claim, capabilities: generator_pb2.GetCapabilitiesResponse) -> None:
        attempt = Attempt(claim, self._generator, capabilities, self._leaves, self._policy, self.wake)
        self._attempts[attempt] = asyncio.create_task(self._execute(attempt))

    async def _execute(self, attempt: Attempt) -> None:
        try:
            retry_after = await attempt.run()
            if retry_after:
                pause = min(max(retry_after, self._refusals.next_delay()), _MAX_PAUSE_SECONDS)
                self._refused_until = time.monotonic() + pause
            else:
                self._refusals.reset()
        except asyncio.CancelledError:
            await asyncio.shield(self._release(attempt.claim))
            raise
        except Exception:
            # The lease expires and the task is queued again: it is not lost.
            log.exception("attempt failed unexpectedly", extra={"task_id": attempt.claim.task.id})
        finally:
            del self._attempts[attempt]
            self.wake()

    async def _release(self, claim: Claim) -> None:
        with contextlib.suppress(errors.RpcError, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                if await self._leaves.queue.release(claim):
                    log.info("task released", extra={"task_id": claim.task.id})

    def _refused_seconds(self) -> float:
        """How long no more requests are sent to the generator, whose queue was full."""
        return max(0.0, self._refused_until - time.monotonic())
