"""The queue in `content_tasks`: claims, heartbeats and every write of the worker that holds a lease.

No acknowledged task is lost. Each is executed at least once, and its effect happens once: a statement that changes
nothing means that the lease belongs to another worker now, and the attempt must stop.
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta

from frontispiece.posts.v1 import tasks_pb2 as t

from services.posts.database import rows
from services.posts.database.database import Database
from services.posts.database.json_columns import to_json
from services.posts.models import WORKER
from services.posts.tasks import statements


@dataclass(frozen=True)
class Claim:
    """A task and the token that every write for it needs."""

    task: t.Task
    token: uuid.UUID

    @property
    def id(self) -> uuid.UUID:
        """The id of the task."""
        return uuid.UUID(self.task.id)

    @property
    def missing(self) -> list[int]:
        """The indexes of the candidates that have no image yet."""
        stored = {image.index for image in self.task.images}
        return [i for i in range(self.task.candidate_count) if i not in stored]


class Queue:
    """What a worker does with the queue. Methods that write return whether the lease was still valid."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        """A lease lasts `lease_seconds` after each heartbeat."""
        self._database = database
        self._lease = timedelta(seconds=lease_seconds)

    async def ready(self) -> bool:
        """Whether a task can be claimed now."""
        return bool(await self._database.fetchval(statements.READY))

    async def claim(self) -> Claim | None:
        """Claim the task that has waited longest and set it GENERATING. None if no task is ready."""
        token = uuid.uuid4()
        row = await self._database.fetchrow(*statements.CLAIM(token=token, lease=self._lease, actor=WORKER))
        return Claim(rows.task(row), token) if row else None

    async def mask(self, claim: Claim) -> bytes:
        """The mask of the task; b"" if it has none."""
        return bytes(await self._database.fetchval(statements.MASK, claim.id) or b"")

    async def heartbeat(self, claim: Claim) -> bool:
        """Extend the lease."""
        statement = statements.HEARTBEAT(id=claim.id, token=claim.token, lease=self._lease)
        return await self._database.execute(*statement) == 1

    async def add_image(self, claim: Claim, image: t.TaskImage) -> bool:
        """Add a stored image. Returns False also if the candidate has its image already."""
        statement = statements.ADD_IMAGE(
            id=claim.id, token=claim.token, actor=WORKER, index=image.index, image=to_json(image)
        )
        return await self._database.execute(*statement) == 1

    async def finish(self, claim: Claim) -> bool:
        """Set the task AWAITING_APPROVAL. Returns False also if an image is missing."""
        return await self._database.execute(*statements.FINISH(id=claim.id, token=claim.token, actor=WORKER)) == 1

    async def release(self, claim: Claim, delay_seconds: float = 0.0) -> bool:
        """Undo the claim. Without a delay the task returns to its old place in the queue."""
        delay = timedelta(seconds=delay_seconds)
        statement = statements.RELEASE(id=claim.id, token=claim.token, actor=WORKER, delay=delay)
        return await self._database.execute(*statement) == 1

    async def fail_attempt(self, claim: Claim, error: t.TaskError, delay_seconds: float) -> bool:
        """End the attempt: QUEUED again after the delay if `will_retry` is set and attempts are left, else FAILED."""
        statement = statements.FAIL_ATTEMPT(
            id=claim.id,
            token=claim.token,
            actor=WORKER,
            reason=error.reason,
            message=error.message,
            will_retry=error.will_retry,
            delay=timedelta(seconds=delay_seconds),
        )
        return await self._database.execute(*statement) == 1

    async def reap(self, retry_base_seconds: float, retry_cap_seconds: float) -> int:
        """End the attempts whose lease has expired; the number of tasks."""
        base, cap = timedelta(seconds=retry_base_seconds), timedelta(seconds=retry_cap_seconds)
        return await self._database.execute(*statements.REAP(actor=WORKER, base=base, cap=cap))
