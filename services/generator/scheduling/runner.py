"""The event loop's side of generation: submit, follow, cancel. The work is done on the engine thread."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor

from rpc.errors import RpcError, Unavailable
from services.generator.engine import DeviceLost, Engine
from services.generator.models import Event, ImageRequest, Load
from services.generator.scheduling.engine_thread import EngineThread
from services.generator.scheduling.event_buffer import EventBuffer
from services.generator.scheduling.request_queue import Job, RequestQueue

log = logging.getLogger(__name__)

THREAD_NAME = "engine"
WATCH_INTERVAL_SECONDS = 1.0
LOADING_RETRY_SECONDS = 1.0


class EngineRunner:
    """Runs an engine on a thread of its own, and gives each request a stream of events. Use as `async with`.

    Entering the block begins to load the engine and does not wait for it; until it is ready, every method raises
    Unavailable.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        *,
        queue_capacity: int,
        decode_chunk: int = 4,
        step_timeout_seconds: float = 120.0,
    ) -> None:
        """`make_engine` is called on the engine thread.

        A call of the engine that takes longer than `step_timeout_seconds` counts as hung; loading may take longer.
        """
        self._make_engine = make_engine
        self._queue = RequestQueue(queue_capacity)
        self._encoder = ThreadPoolExecutor(2, thread_name_prefix="encode")
        self._decode_chunk = decode_chunk
        self._step_timeout_seconds = step_timeout_seconds
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._engine_thread: EngineThread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[Engine] | None = None
        self._watchdog: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()
        """Set when only a new process can continue: the device hangs, or is in an error that lasts."""

    async def __aenter__(self) -> "EngineRunner":
        """Begin to load the engine."""
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        self._thread.start()
        self._watchdog = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the thread. Requests in progress fail with UNAVAILABLE."""
        if self._watchdog:
            self._watchdog.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watchdog
        waiting = self._queue.stop()
        if self.is_ready and not self.lost.is_set():
            await asyncio.to_thread(self._thread.join, self._step_timeout_seconds)
        _fail([*waiting, *self._admitted()], _stopping())
        self._encoder.shutdown(wait=False)
        if self._ready and not self._ready.cancelled() and self._ready.done():
            self._ready.exception()  # mark it as retrieved: a caller that needs it awaits `ready`

    async def ready(self) -> Engine:
        """Wait until the engine is ready. Raises what its construction or warm-up raised."""
        assert self._ready is not None
        return await asyncio.shield(self._ready)

    @property
    def is_ready(self) -> bool:
        """Whether the engine can generate."""
        return self._ready is not None and self._ready.done() and self._ready.exception() is None

    @property
    def engine(self) -> Engine:
        """The engine; only its `models`, `device` and `inspect` may be used. Raises Unavailable while it is loading."""
        if self._ready is None or not self.is_ready:
            raise Unavailable("the model is loading", reason="MODEL_LOADING", retry_after_seconds=LOADING_RETRY_SECONDS)
        return self._ready.result()

    def load(self) -> Load:
        """How busy it is."""
        return self._queue.load()

    def check_room(self) -> None:
        """Raise what `generate` would raise now for want of room."""
        self._queue.check_room()

    async def generate(self, request: ImageRequest) -> AsyncGenerator[Event]:
        """Queue a request. The last of its events is the image. Closing the iteration cancels the request.

        Raises ResourceExhausted when too many requests wait, Unavailable when the process ends, Internal with the
        reason IMAGE_INVALID, OUT_OF_MEMORY or ENGINE_FAILED.
        """
        assert self._loop is not None
        job = Job(request, EventBuffer(self._loop))
        self._queue.submit(job)
        try:
            async with contextlib.aclosing(job.events.stream()) as events:
                async for event in events:
                    yield event
        finally:
            job.cancelled = True
            self._queue.remove(job)

    def _run(self) -> None:
        assert self._loop is not None
        try:
            engine = self._make_engine()
            self._queue.slots = engine.warm_up()
            self._queue.in_memory = engine.in_memory()
        except BaseException as error:
            self._call_soon(self._report_ready, None, error)
            return
        self._engine_thread = EngineThread(engine, self._queue, self._encoder, self._decode_chunk)
        self._call_soon(self._report_ready, engine, None)
        try:
            self._engine_thread.run()
        except DeviceLost as error:
            self._call_soon(self._lose, str(error))
        except Exception as error:
            log.exception("the engine thread failed")
            self._call_soon(self._lose, repr(error))

    def _call_soon(self, callback: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _report_ready(self, engine: Engine | None, error: BaseException | None) -> None:
        assert self._ready is not None
        if self._ready.done():
            return
        if engine is not None:
            self._ready.set_result(engine)
        elif error is not None:
            self._ready.set_exception(error)

    def _admitted(self) -> list[Job]:
        return self._engine_thread.jobs() if self._engine_thread else []

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(WATCH_INTERVAL_SECONDS, self._step_timeout_seconds / 2))
            busy = self._engine_thread.busy_seconds if self._engine_thread else 0.0
            if busy > self._step_timeout_seconds:
                self._lose(f"a step has taken {busy:.0f} s")
                return

    def _lose(self, reason: str) -> None:
        if self.lost.is_set():
            return
        log.critical("the engine cannot continue: %s", reason)
        self.lost.set()
        error = Unavailable("the generator restarts", reason="GENERATOR_RESTARTING", retry_after_seconds=5)
        _fail([*self._queue.stop(), *self._admitted()], error)


def _stopping() -> Unavailable:
    return Unavailable("the generator is stopping", reason="GENERATOR_STOPPING", retry_after_seconds=5)


def _fail(jobs: list[Job], error: RpcError) -> None:
    for job in jobs:
        job.events.fail(error)
