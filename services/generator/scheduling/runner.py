"""The event loop's side of painting: submit, watch, cancel; the work is done by the engine thread (painter.py)."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

from rpc.errors import RpcError, Unavailable
from services.generator.engine import DeviceLost, Engine
from services.generator.models import Event, ImageRequest, Load
from services.generator.scheduling.engine_thread import EngineThread
from services.generator.scheduling.event_buffer import EventBuffer
from services.generator.scheduling.request_queue import Job, RequestQueue

log = logging.getLogger(__name__)

WATCH_INTERVAL_SECONDS = 1.0


class EngineRunner:
    """Runs an engine on a thread of its own and gives each request a stream of events. Use as `async with`."""

    def __init__(
        self, engine: Engine, *, queue_capacity: int, decode_chunk: int = 4, step_timeout_seconds: float = 120.0
    ) -> None:
        """A call of the engine longer than `step_timeout_seconds` counts as hung; the warm-up may take longer."""
        self._engine = engine
        self._queue = RequestQueue(queue_capacity)
        self._encoder = ThreadPoolExecutor(2, thread_name_prefix="encode")
        self._engine_thread = EngineThread(engine, self._queue, self._encoder, decode_chunk)
        self._step_timeout_seconds = step_timeout_seconds
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._warm: asyncio.Future[None] | None = None
        self._watchdog: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()
        """Set when only a new process can go on: the device hangs or is in an error that lasts."""

    async def __aenter__(self) -> "EngineRunner":
        """Start the thread and wait until the engine is warm. Raises what its warm-up raised."""
        self._loop = asyncio.get_running_loop()
        self._warm = self._loop.create_future()
        self._thread.start()
        await self._warm
        self._watchdog = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the thread; what is still in work fails with UNAVAILABLE."""
        if self._watchdog:
            self._watchdog.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watchdog
        waiting = self._queue.stop()
        if not self.lost.is_set():
            await asyncio.to_thread(self._thread.join, self._step_timeout_seconds)
        _fail([*waiting, *self._engine_thread.jobs()], _stopping())
        self._encoder.shutdown(wait=False)

    @property
    def engine(self) -> Engine:
        """The engine that paints; only its `models` and `device` may be read outside its thread."""
        return self._engine

    def load(self) -> Load:
        """How busy it is now."""
        return self._queue.load()

    def check_room(self) -> None:
        """Raise what `paint` would raise now to a request for which there is no place."""
        self._queue.check_room()

    async def paint(self, request: ImageRequest) -> AsyncGenerator[Event]:
        """Queue a request and tell its events; the last is the image. Closing the iteration cancels the request.

        Raises ResourceExhausted when too many wait, Unavailable when the process ends, Internal with the reason
        IMAGE_INVALID, OUT_OF_MEMORY or ENGINE_FAILED.
        """
        assert self._loop is not None
        job = Job(request, EventBuffer(self._loop))
        self._queue.enter(job)
        try:
            async with contextlib.aclosing(job.events.stream()) as events:
                async for event in events:
                    yield event
        finally:
            job.cancelled = True
            self._queue.withdraw(job)

    def _run(self) -> None:
        assert self._loop is not None
        try:
            self._queue.slots = self._engine.warm_up()
            self._queue.in_memory = self._engine.in_memory()
        except BaseException as error:
            self._loop.call_soon_threadsafe(self._report_warm, error)
            return
        self._loop.call_soon_threadsafe(self._report_warm, None)
        try:
            self._engine_thread.run()
        except DeviceLost as error:
            self._loop.call_soon_threadsafe(self._die, str(error))
        except Exception as error:
            log.exception("the engine thread failed")
            self._loop.call_soon_threadsafe(self._die, repr(error))

    def _report_warm(self, error: BaseException | None) -> None:
        assert self._warm is not None
        if self._warm.done():  # the process gave up waiting
            return
        if error is None:
            self._warm.set_result(None)
        else:
            self._warm.set_exception(error)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(WATCH_INTERVAL_SECONDS, self._step_timeout_seconds / 2))
            busy = self._engine_thread.busy_seconds
            if busy > self._step_timeout_seconds:
                self._die(f"a step has taken {busy:.0f} s")
                return

    def _die(self, reason: str) -> None:
        if self.lost.is_set():
            return
        log.critical("the engine cannot go on: %s", reason)
        self.lost.set()
        error = Unavailable("the generator restarts", reason="GENERATOR_RESTARTING", retry_after_seconds=5)
        _fail([*self._queue.stop(), *self._engine_thread.jobs()], error)


def _stopping() -> Unavailable:
    return Unavailable("the generator stops", reason="GENERATOR_STOPPING", retry_after_seconds=5)


def _fail(jobs: list[Job], error: RpcError) -> None:
    for job in jobs:
        job.events.fail(error)
