"""Following tasks: stored events from the table at the reader's own pace, progress as it comes.

A reader holds no queue of events: it reads them from the table after the last one it has sent, so none is lost or
repeated however slow it is. Of progress and previews only the newest is kept for it.
"""

import asyncio
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rpc import errors
from services.posts.database import rows
from services.posts.database.database import Database
from services.posts.models import RESTING, Event, Preview, Progress, StateChange, TaskState
from services.posts.tasks.notify import Passing, Stored

log = logging.getLogger(__name__)

BATCH = 100
_OUTAGE_SECONDS = 60.0

READ = """
SELECT e.task_id, e.sequence, e.time, e.kind, e.attempt, e.actor, e.state, e.error_reason, e.error_message,
    e.error_will_retry, e.post_id AS event_post_id, e.comment, t.last_sequence,
    i.index, i.key, i.url, i.image_source, i.width, i.height, i.content_type, i.size_bytes, i.sha256, i.thumbhash,
    i.seed, i.model, i.model_revision, i.scheduler, i.num_inference_steps, i.guidance_scale, i.batch_size, i.credit,
    i.credit_url
FROM task_events e
JOIN content_tasks t ON t.id = e.task_id
LEFT JOIN task_images i ON i.task_id = e.task_id AND i.index = e.image_index
WHERE e.task_id = $1 AND e.sequence > $2
ORDER BY e.sequence LIMIT $3
"""

STANDING = "SELECT state, last_sequence, attempt_count FROM content_tasks WHERE id = $1"

LAST_SEQUENCES = "SELECT id, last_sequence FROM content_tasks WHERE id = ANY ($1::uuid[])"


@dataclass(eq=False)
class _Reader:
    """One open watch: how far it is, and what has come for it since it last looked."""

    after: int
    is_behind: bool = True
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    progress: Passing | None = None
    previews: dict[int, Passing] = field(default_factory=dict)

    def look(self) -> None:
        """There may be stored events to read."""
        self.is_behind = True
        self.woken.set()

    def take(self) -> list[Passing]:
        """What has come, previews last; it is forgotten here."""
        taken = [self.progress] if self.progress else []
        taken += self.previews.values()
        self.progress, self.previews = None, {}
        return taken


@dataclass
class _Attempt:
    """Which attempt a reader has seen begin, and how far it has been told."""

    number: int | None = None
    told: Progress | None = None

    def enter(self, change: StateChange) -> None:
        """A change of state was sent."""
        self.number = change.attempt if change.state is TaskState.GENERATING else None
        self.told = None

    def admits(self, passing: Passing) -> bool:
        """Whether this may be sent now: of this attempt, and not behind what was sent."""
        if passing.attempt != self.number:
            return False
        if not isinstance(passing.what, Progress):
            return True
        now, told = passing.what, self.told
        if told is not None and now.step * told.total_steps < told.step * now.total_steps:
            return False
        if told is not None and told.total_steps and not now.total_steps:
            return False
        self.told = now
        return True


class Watchers:
    """All open watches of this process."""

    def __init__(self, database: Database, poll_seconds: float) -> None:
        """Ask the table every `poll_seconds` for what notifications may have missed."""
        self._database = database
        self._poll_seconds = poll_seconds
        self._readers: dict[uuid.UUID, set[_Reader]] = defaultdict(set)
        self._closed = False

    def on_stored(self, stored: Stored) -> None:
        """An event was stored."""
        for reader in self._readers.get(stored.task_id, ()):
            reader.look()

    def on_passing(self, passing: Passing) -> None:
        """Progress or a preview has come."""
        for reader in self._readers.get(passing.task_id, ()):
            if isinstance(passing.what, Preview):
                reader.previews[passing.what.index] = passing
            else:
                reader.progress = passing
            reader.woken.set()

    def on_gap(self) -> None:
        """Notifications may have been missed: everybody looks."""
        for readers in self._readers.values():
            for reader in readers:
                reader.look()

    def close(self) -> None:
        """End all watches with Unavailable: their callers go on elsewhere."""
        self._closed = True
        self.on_gap()

    async def poll(self) -> None:
        """The net below notifications: one question for all watched tasks, until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            if not self._readers:
                continue
            try:
                found = await self._database.fetch(LAST_SEQUENCES, list(self._readers))
            except errors.RpcError as error:
                log.debug("poll failed", exc_info=error)
                continue
            for row in found:
                for reader in self._readers.get(row["id"], ()):
                    if row["last_sequence"] > reader.after:
                        reader.look()

    async def watch(self, task_id: uuid.UUID, after_sequence: int) -> AsyncIterator[Event]:
        """Events of a task after `after_sequence`; ends after the terminal one, or at once when that is known already.

        Raises NotFound, and Unavailable when this process ends or the database is away for a minute.
        """
        row = await self._database.fetchrow(STANDING, task_id)
        if row is None:
            raise errors.NotFound(f"there is no task {task_id}", reason="TASK_NOT_FOUND")
        is_generating = row["state"] == TaskState.GENERATING
        if row["state"] in RESTING and after_sequence >= row["last_sequence"]:
            return
        reader = _Reader(min(after_sequence, row["last_sequence"]))
        self._readers[task_id].add(reader)
        try:
            async for event in self._follow(task_id, reader, _Attempt(row["attempt_count"] if is_generating else None)):
                yield event
        finally:
            self._readers[task_id].discard(reader)
            if not self._readers[task_id]:
                del self._readers[task_id]

    async def _follow(self, task_id: uuid.UUID, reader: _Reader, attempt: _Attempt) -> AsyncIterator[Event]:
        while not self._closed:
            reader.woken.clear()
            # Taken before the table is read: progress of an attempt is never sent before the event that begins it.
            passing = reader.take()
            while reader.is_behind:
                events = await self._read(task_id, reader)
                for event in events:
                    reader.after = event.sequence
                    if isinstance(event.kind, StateChange):
                        attempt.enter(event.kind)
                    yield event
                    if event.terminal:
                        return
            for item in passing:
                if attempt.admits(item):
                    yield Event(task_id, 0, datetime.now(UTC), False, item.what)
            await reader.woken.wait()
        raise errors.Unavailable("the server stops", reason="SHUTTING_DOWN", retry_after_seconds=0.5)

    async def _read(self, task_id: uuid.UUID, reader: _Reader) -> list[Event]:
        """The next events; tried again while the database is away."""
        ends = time.monotonic() + _OUTAGE_SECONDS
        while True:
            reader.is_behind = False
            try:
                found = await self._database.fetch(READ, task_id, reader.after, BATCH)
            except errors.Unavailable:
                if self._closed or time.monotonic() > ends:
                    raise
                await asyncio.sleep(self._poll_seconds)
                continue
            reader.is_behind = reader.is_behind or len(found) == BATCH
            return [rows.event(row) for row in found]
