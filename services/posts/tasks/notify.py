"""What posts processes tell each other by NOTIFY: that an event was stored, and progress, which never is.

A notification is a hint. Whoever misses one finds the stored event in the table within a poll, and progress with the
next step.
"""

import asyncio
import base64
import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from rpc import errors
from services.posts.database import database
from services.posts.database.database import Database
from services.posts.models import Preview, Progress, TaskState

log = logging.getLogger(__name__)

EVENTS = "frontispiece_events"
PROGRESS = "frontispiece_progress"

PING_SECONDS = 15.0
PING_TIMEOUT_SECONDS = 5.0
_RECONNECT_SECONDS = 0.5

# PostgreSQL takes less than 8,000 bytes a notification: a preview goes in parts, in one transaction, in order.
_PART_CHARACTERS = 7_000

# Losing a notification at a crash loses nothing, so its transaction need not wait for the disk.
NOTIFY = """
SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, part.text)
FROM unnest($2::text[]) WITH ORDINALITY part (text, number) ORDER BY part.number
"""


@dataclass(frozen=True)
class Stored:
    """A stored event: the task, its sequence, and the state entered if it was a change of state."""

    task_id: uuid.UUID
    sequence: int
    state: TaskState | None


@dataclass(frozen=True)
class Passing:
    """Something of an attempt that is not stored."""

    task_id: uuid.UUID
    attempt: int
    what: Progress | Preview


async def announce(record: Database, passing: Passing) -> None:
    """Tell every posts process. Failing is no harm and is not told."""
    head = {"task": str(passing.task_id), "attempt": passing.attempt}
    what = passing.what
    if isinstance(what, Progress):
        steps = [what.step, what.total_steps, what.eta_seconds, what.queue_position]
        parts = [json.dumps({**head, "progress": steps})]
    else:
        text = base64.b64encode(what.data).decode()
        pieces = [text[i : i + _PART_CHARACTERS] for i in range(0, len(text), _PART_CHARACTERS)] or [""]
        preview = [what.index, what.content_type]
        parts = [
            json.dumps({**head, "preview": [*preview, number, len(pieces), piece]})
            for number, piece in enumerate(pieces)
        ]
    try:
        await record.fetch(NOTIFY, PROGRESS, parts)
    except errors.RpcError as error:
        log.debug("progress was not told", exc_info=error)


class Listener:
    """One connection that listens, made anew when it is lost; it calls back in the event loop, quickly."""

    def __init__(
        self,
        url: str,
        on_stored: Callable[[Stored], None],
        on_passing: Callable[[Passing], None],
        on_gap: Callable[[], None],
    ) -> None:
        """`on_gap` is called whenever notifications may have been missed."""
        self._url = url
        self._on_stored = on_stored
        self._on_passing = on_passing
        self._on_gap = on_gap
        self._parts: dict[tuple[uuid.UUID, int], list[str]] = {}

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except errors.Unavailable as error:
                log.warning("listening again soon: %s", error.message)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        connection = await database.connect(self._url, "posts-listener")
        lost = asyncio.Event()
        try:
            with database.translated():
                connection.add_termination_listener(lambda _: lost.set())
                await connection.add_listener(EVENTS, self._receive)
                await connection.add_listener(PROGRESS, self._receive)
                self._parts.clear()
                self._on_gap()
                while not lost.is_set():
                    try:
                        async with asyncio.timeout(PING_SECONDS):
                            await lost.wait()
                    except TimeoutError:
                        # A network that swallows packets closes nothing: only an unanswered question shows it.
                        if await connection.fetchval(database.IS_READ_ONLY, timeout=PING_TIMEOUT_SECONDS):
                            break  # demoted: nobody notifies here any more
            raise errors.Unavailable("the listening connection was lost")
        finally:
            connection.terminate()

    def _receive(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        try:
            if channel == EVENTS:
                self._on_stored(_stored(str(payload)))
            elif passing := self._passing(str(payload)):
                self._on_passing(passing)
        except (ValueError, KeyError, TypeError) as error:  # of another version, or not of ours
            log.debug("notification not understood", exc_info=error)

    def _passing(self, payload: str) -> Passing | None:
        message = json.loads(payload)
        task_id, attempt = uuid.UUID(message["task"]), int(message["attempt"])
        if "progress" in message:
            return Passing(task_id, attempt, Progress(*message["progress"]))
        index, content_type, number, count, piece = message["preview"]
        if number == 0:
            self._parts[task_id, index] = []
        pieces = self._parts.get((task_id, index))
        if pieces is None or len(pieces) != number:
            return None
        pieces.append(piece)
        if len(pieces) < count:
            return None
        del self._parts[task_id, index]
        return Passing(task_id, attempt, Preview(index, content_type, base64.b64decode("".join(pieces))))


def _stored(payload: str) -> Stored:
    task_id, sequence, state = payload.split(" ")
    return Stored(uuid.UUID(task_id), int(sequence), TaskState(state) if state else None)
