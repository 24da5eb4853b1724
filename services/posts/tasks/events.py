"""Following the events of tasks: stored events from the table at the speed of the reader, progress as it arrives.

A reader has no queue of events. It reads the table after the last event that it has sent, so none is lost or repeated
however slow it is. Of progress and previews only the latest is kept for it.
"""

import asyncio
import logging
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from frontispiece.posts.v1 import tasks_pb2 as t

from rpc import errors
from rpc.backoff import Backoff, retry
from services.posts.database import rows
from services.posts.database.database import Database
from services.posts.models import TASK_STATES, TERMINAL_STATES
from services.posts.tasks import statements
from services.posts.tasks.notify import EphemeralEvent, EventStored

log = logging.getLogger(__name__)

BATCH = 100
_OUTAGE_SECONDS = 60.0
_READ_AGAIN = Backoff(base_seconds=0.2, max_seconds=2.0)


@dataclass(eq=False)
class _Reader:
    """One open stream: the last sequence it has sent, and what has arrived since it last looked."""

    after: int
    is_behind: bool = True
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    progress: EphemeralEvent | None = None
    previews: dict[int, EphemeralEvent] = field(default_factory=dict)

    def look(self) -> None:
        """There may be stored events to read."""
        self.is_behind = True
        self.woken.set()

    def receive(self, ephemeral: EphemeralEvent) -> None:
        """Keep the latest progress, and the latest preview of each candidate."""
        if isinstance(ephemeral.event, t.TaskPreview):
            self.previews[ephemeral.event.index] = ephemeral
        else:
            self.progress = ephemeral
        self.woken.set()

    def take(self) -> list[EphemeralEvent]:
        """What has arrived, previews last. It is removed from the reader."""
        taken = [self.progress] if self.progress else []
        taken += self.previews.values()
        self.progress, self.previews = None, {}
        return taken


@dataclass
class _Attempt:
    """The attempt that a reader has seen begin, and the progress that it has sent."""

    number: int | None = None
    sent: t.TaskProgress | None = None

    def enter(self, change: t.TaskStateChange) -> None:
        """A change of state was sent."""
        self.number = change.attempt if change.state == t.TASK_STATE_GENERATING else None
        self.sent = None

    def admits(self, ephemeral: EphemeralEvent) -> bool:
        """Whether the event may be sent: it belongs to this attempt and is not behind the progress that was sent."""
        if ephemeral.attempt != self.number:
            return False
        if not isinstance(ephemeral.event, t.TaskProgress):
            return True
        now, sent = ephemeral.event, self.sent
        if sent is not None and now.step * sent.total_steps < sent.step * now.total_steps:
            return False
        if sent is not None and sent.total_steps and not now.total_steps:
            return False
        self.sent = now
        return True


class TaskEvents:
    """All open event streams of this process."""

    def __init__(self, database: Database, poll_seconds: float) -> None:
        """Query the table every `poll_seconds` for events whose notification may have been lost."""
        self._database = database
        self._poll_seconds = poll_seconds
        self._readers: dict[uuid.UUID, set[_Reader]] = defaultdict(set)
        self._closed = False

    @property
    def reader_count(self) -> int:
        """The number of open streams."""
        return sum(map(len, self._readers.values()))

    def on_stored(self, stored: EventStored) -> None:
        """An event was stored."""
        for reader in self._readers.get(stored.task_id, ()):
            reader.look()

    def on_ephemeral(self, ephemeral: EphemeralEvent) -> None:
        """Progress or a preview has arrived."""
        for reader in self._readers.get(ephemeral.task_id, ()):
            reader.receive(ephemeral)

    def on_gap(self) -> None:
        """Notifications may have been missed: every reader reads the table."""
        for readers in self._readers.values():
            for reader in readers:
                reader.look()

    def close(self) -> None:
        """End all streams with Unavailable. Their callers continue at another process."""
        self._closed = True
        self.on_gap()

    async def poll(self) -> None:
        """Query the last sequences of all followed tasks, until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            if not self._readers:
                continue
            try:
                found = await self._database.fetch(statements.LAST_SEQUENCES, list(self._readers))
            except errors.RpcError as error:
                log.debug("poll failed", exc_info=error)
                continue
            for row in found:
                for reader in self._readers.get(row["id"], ()):
                    if row["last_sequence"] > reader.after:
                        reader.look()

    async def follow(self, task_id: uuid.UUID, after_sequence: int) -> AsyncIterator[t.TaskEvent]:
        """Events of a task after `after_sequence`. Ends after the terminal event, or at once if that was seen already.

        Raises NotFound, and Unavailable when this process stops or the database does not answer for a minute.
        """
        row = await self._database.fetchrow(statements.CURRENT, task_id)
        if row is None:
            raise errors.NotFound(f"there is no task {task_id}", reason="TASK_NOT_FOUND")
        state = TASK_STATES[row["state"]]
        if state in TERMINAL_STATES and after_sequence >= row["last_sequence"]:
            return
        reader = _Reader(min(after_sequence, row["last_sequence"]))
        attempt = _Attempt(row["attempt_count"] if state == t.TASK_STATE_GENERATING else None)
        self._readers[task_id].add(reader)
        try:
            async for event in self._events(task_id, reader, attempt):
                yield event
        finally:
            self._readers[task_id].discard(reader)
            if not self._readers[task_id]:
                del self._readers[task_id]

    async def _events(self, task_id: uuid.UUID, reader: _Reader, attempt: _Attempt) -> AsyncIterator[t.TaskEvent]:
        while not self._closed:
            reader.woken.clear()
            # Taken before the table is read: progress of an attempt is never sent before the event that begins it.
            arrived = reader.take()
            while reader.is_behind:
                for event in await self._read(task_id, reader):
                    reader.after = event.sequence
                    if event.WhichOneof("kind") == "state_change":
                        attempt.enter(event.state_change)
                    yield event
                    if event.terminal:
                        return
            for ephemeral in arrived:
                if attempt.admits(ephemeral):
                    yield _message(ephemeral)
            await reader.woken.wait()
        raise errors.Unavailable("the server stops", reason="SHUTTING_DOWN", retry_after_seconds=0.5)

    async def _read(self, task_id: uuid.UUID, reader: _Reader) -> list[t.TaskEvent]:
        """The next events. The query is repeated while the database does not answer."""

        async def read() -> list[t.TaskEvent]:
            reader.is_behind = False
            found = await self._database.fetch(statements.READ_EVENTS, task_id, reader.after, BATCH)
            reader.is_behind = reader.is_behind or len(found) == BATCH
            return [rows.event(row) for row in found]

        return await retry(
            read,
            _READ_AGAIN,
            timeout_seconds=_OUTAGE_SECONDS,
            is_retryable=lambda error: isinstance(error, errors.Unavailable) and not self._closed,
        )


def _message(ephemeral: EphemeralEvent) -> t.TaskEvent:
    event = t.TaskEvent(task_id=str(ephemeral.task_id), time=rows.timestamp(datetime.now(UTC)))
    if isinstance(ephemeral.event, t.TaskPreview):
        event.preview.CopyFrom(ephemeral.event)
    else:
        event.progress.CopyFrom(ephemeral.event)
    return event
