"""NOTIFY between processes: which event was stored, and the progress and previews of attempts, which are not stored.

A notification is a hint. A process that misses one finds the stored event in the table at its next poll, and progress
with the next step.
"""

import asyncio
import base64
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from frontispiece.posts.v1 import tasks_pb2 as t

from rpc import errors
from rpc.backoff import Backoff, Retries
from services.posts.database import database
from services.posts.database.database import Database
from services.posts.database.failures import translated
from services.posts.models import TASK_STATES

log = logging.getLogger(__name__)

EVENTS = "frontispiece_events"
EPHEMERAL = "frontispiece_ephemeral"
CHANGES = "frontispiece_changes"

PING_SECONDS = 15.0
PING_TIMEOUT_SECONDS = 5.0
_RECONNECT = Backoff(base_seconds=0.2, max_seconds=2.0, jitter="equal")

# A notification holds less than 8,000 bytes. An event that is longer, a preview, is sent in parts in one transaction:
# PostgreSQL delivers the notifications of a transaction together and in order.
_PART_CHARACTERS = 7_000

# The transaction need not wait for the disk: a crash may lose notifications anyway.
NOTIFY = """
SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, part.text)
FROM unnest($2::text[]) WITH ORDINALITY part (text, number) ORDER BY part.number
"""


@dataclass(frozen=True)
class EventStored:
    """An event was stored. `state`: the state that the task entered; None if the event is no change of state."""

    task_id: uuid.UUID
    sequence: int
    state: "t.TaskState | None"


@dataclass(frozen=True)
class EphemeralEvent:
    """Progress or a preview of an attempt."""

    task_id: uuid.UUID
    attempt: int
    event: t.TaskProgress | t.TaskPreview


async def notify(database: Database, ephemeral: EphemeralEvent) -> None:
    """Send an event to all processes that listen. Best effort: errors are logged and ignored."""
    event = t.TaskEvent()
    if isinstance(ephemeral.event, t.TaskProgress):
        event.progress.CopyFrom(ephemeral.event)
    else:
        event.preview.CopyFrom(ephemeral.event)
    text = base64.b64encode(event.SerializeToString()).decode()
    parts = [text[i : i + _PART_CHARACTERS] for i in range(0, len(text), _PART_CHARACTERS)]
    head = f"{ephemeral.task_id} {ephemeral.attempt}"
    payloads = [f"{head} {number} {len(parts)} {part}" for number, part in enumerate(parts)]
    try:
        await database.fetch(NOTIFY, EPHEMERAL, payloads)
    except errors.RpcError as error:
        log.debug("an event was not sent", exc_info=error)


class Listener:
    """One connection that listens. It is opened again when it is lost. Callbacks run in the event loop: be quick."""

    def __init__(
        self,
        url: str,
        name: str,
        on_stored: Callable[[EventStored], None],
        on_gap: Callable[[], None],
        on_ephemeral: Callable[[EphemeralEvent], None] | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """`on_change` is called when a post, author, category or tag has changed, `on_gap` whenever notifications may
        have been missed. `name` appears in pg_stat_activity.
        """
        self._url = url
        self._name = name
        self._on_stored = on_stored
        self._on_gap = on_gap
        self._on_ephemeral = on_ephemeral
        self._on_change = on_change
        self._parts: list[str] = []

    async def run(self) -> None:
        """Listen until cancelled."""
        retries = Retries(_RECONNECT)
        while True:
            try:
                await self._listen(retries)
            except errors.Unavailable as error:
                log.warning("listening again soon: %s", error.message)
            await retries.sleep()

    async def _listen(self, retries: Retries) -> None:
        connection = await database.connect(self._url, self._name)
        lost = asyncio.Event()
        try:
            with translated():
                connection.add_termination_listener(lambda _: lost.set())
                await connection.add_listener(EVENTS, self._receive)
                if self._on_ephemeral:
                    await connection.add_listener(EPHEMERAL, self._receive)
                if self._on_change:
                    await connection.add_listener(CHANGES, self._receive)
                retries.reset()
                self._on_gap()
                while not lost.is_set():
                    try:
                        async with asyncio.timeout(PING_SECONDS):
                            await lost.wait()
                    except TimeoutError:
                        # A network that drops packets does not close the connection. Only an unanswered query shows it.
                        if await connection.fetchval(database.IS_READ_ONLY, timeout=PING_TIMEOUT_SECONDS):
                            break  # demoted: no process notifies on this server any more
            raise errors.Unavailable("the listening connection was lost")
        finally:
            connection.terminate()

    def _receive(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        try:
            if channel == EVENTS:
                task_id, sequence, state = str(payload).split(" ")
                self._on_stored(EventStored(uuid.UUID(task_id), int(sequence), TASK_STATES[state] if state else None))
            elif channel == CHANGES:
                if self._on_change:
                    self._on_change()
            elif self._on_ephemeral and (event := self._joined(str(payload))):
                self._on_ephemeral(event)
        except (ValueError, KeyError) as error:  # DecodeError is a ValueError; sent by another version, or not by us
            log.debug("notification not understood", exc_info=error)

    def _joined(self, payload: str) -> EphemeralEvent | None:
        """The event whose last part `payload` is; None for the other parts, and if a part was missed."""
        task_id, attempt, number, count, part = payload.split(" ")
        if int(number) == 0:
            self._parts = []
        if len(self._parts) != int(number):
            return None
        self._parts.append(part)
        if len(self._parts) < int(count):
            return None
        event = t.TaskEvent.FromString(base64.b64decode("".join(self._parts)))
        found = event.progress if event.WhichOneof("kind") == "progress" else event.preview
        return EphemeralEvent(uuid.UUID(task_id), int(attempt), found)
