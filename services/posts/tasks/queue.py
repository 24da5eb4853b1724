"""The queue in `content_tasks`: claim, heartbeat and every write of the one who holds the lease.

The promise: no acknowledged task is lost; each is executed at least once; its effect happens once. Each statement is
one transaction by itself: the task's row, its event and (by trigger) its announcement change together or not at all. A
statement that changes nothing means: the lease is another's now; stop. All times are the database's.
"""

import uuid
from dataclasses import astuple, dataclass
from datetime import timedelta

from services.posts.database import rows
from services.posts.database.database import Database
from services.posts.models import DISPATCHER, Task, TaskError, TaskImage

HAS_DUE = "SELECT EXISTS (SELECT FROM content_tasks WHERE state = 'queued' AND run_at <= clock_timestamp())"

CLAIM = """
WITH next AS (
    SELECT id FROM content_tasks
    WHERE state = 'queued' AND run_at <= clock_timestamp()
    ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE content_tasks t SET state = 'generating', attempt_count = attempt_count + 1,
        lease_token = $1, lease_until = clock_timestamp() + $2::interval,
        last_sequence = last_sequence + 1, updated_by = $3, update_time = clock_timestamp()
    FROM next WHERE t.id = next.id RETURNING t.*
), event AS (
    INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state)
    SELECT id, last_sequence, 'state', attempt_count, updated_by, state FROM changed
)
SELECT t.*, NULL::bigint AS queue_position,
    (SELECT json_agg(i ORDER BY i.index) FROM task_images i WHERE i.task_id = t.id) AS images
FROM changed t
"""

BEAT = """
UPDATE content_tasks SET lease_until = clock_timestamp() + $3::interval
WHERE id = $1 AND lease_token = $2
"""

ADD_IMAGE = """
WITH changed AS (
    UPDATE content_tasks SET last_sequence = last_sequence + 1, update_time = clock_timestamp()
    WHERE id = $1 AND lease_token = $2
        AND NOT EXISTS (SELECT FROM task_images i WHERE i.task_id = $1 AND i.index = $4)
    RETURNING id, last_sequence, attempt_count
), image AS (
    INSERT INTO task_images (task_id, index, key, url, image_source, width, height, content_type, size_bytes, sha256,
        thumbhash, seed, model, model_revision, scheduler, num_inference_steps, guidance_scale, batch_size, credit,
        credit_url)
    SELECT id, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22 FROM changed
)
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, image_index)
SELECT id, last_sequence, 'image', attempt_count, $3, $4 FROM changed
"""

FINISH = """
WITH changed AS (
    UPDATE content_tasks t SET state = 'awaiting_approval', lease_token = NULL, lease_until = NULL,
        error_reason = NULL, error_message = NULL, error_will_retry = NULL,
        last_sequence = last_sequence + 1, updated_by = $3, update_time = clock_timestamp()
    WHERE id = $1 AND lease_token = $2
        AND candidate_count = (SELECT count(*) FROM task_images i WHERE i.task_id = t.id)
    RETURNING *
)
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state)
SELECT id, last_sequence, 'state', attempt_count, updated_by, state FROM changed
"""

# Not the task's fault: the attempt does not count.
GIVE_BACK = """
WITH changed AS (
    UPDATE content_tasks SET state = 'queued', attempt_count = attempt_count - 1,
        run_at = CASE WHEN $4::interval = '0' THEN run_at ELSE clock_timestamp() + $4::interval END,
        lease_token = NULL, lease_until = NULL,
        last_sequence = last_sequence + 1, updated_by = $3, update_time = clock_timestamp()
    WHERE id = $1 AND lease_token = $2
    RETURNING *
)
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state)
SELECT id, last_sequence, 'state', attempt_count, updated_by, state FROM changed
"""

FAIL_ATTEMPT = """
WITH changed AS (
    UPDATE content_tasks SET
        state = CASE WHEN $6 AND attempt_count < max_attempts THEN 'queued' ELSE 'failed' END,
        error_reason = $4, error_message = $5, error_will_retry = $6 AND attempt_count < max_attempts,
        run_at = clock_timestamp() + $7::interval, lease_token = NULL, lease_until = NULL,
        last_sequence = last_sequence + 1, updated_by = $3, update_time = clock_timestamp()
    WHERE id = $1 AND lease_token = $2
    RETURNING *
)
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state, error_reason, error_message, error_will_retry)
SELECT id, last_sequence, 'state', attempt_count, updated_by, state, error_reason, error_message, error_will_retry
FROM changed
"""

SWEEP = """
WITH expired AS (
    SELECT id FROM content_tasks
    WHERE state = 'generating' AND lease_until < clock_timestamp()
    ORDER BY lease_until LIMIT 100 FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE content_tasks t SET
        state = CASE WHEN attempt_count < max_attempts THEN 'queued' ELSE 'failed' END,
        error_reason = 'WORKER_LOST', error_message = 'the process that worked on it was lost',
        error_will_retry = attempt_count < max_attempts,
        run_at = clock_timestamp() + least($2::interval * power(2, least(attempt_count - 1, 20)), $3::interval),
        lease_token = NULL, lease_until = NULL,
        last_sequence = last_sequence + 1, updated_by = $1, update_time = clock_timestamp()
    FROM expired WHERE t.id = expired.id
    RETURNING t.*
)
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state, error_reason, error_message, error_will_retry)
SELECT id, last_sequence, 'state', attempt_count, updated_by, state, error_reason, error_message, error_will_retry
FROM changed
"""

MASK = "SELECT data FROM task_masks WHERE task_id = $1"

FORGET_KEYS = """
DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency_keys WHERE create_time < clock_timestamp() - $1::interval LIMIT 1000
))
"""


@dataclass(frozen=True)
class Claim:
    """A task and the token that fences every write for it."""

    task: Task
    token: uuid.UUID


class Queue:
    """What dispatchers do with the queue. Methods that write tell whether the lease was still theirs."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        """Claims last `lease_seconds` beyond each heartbeat."""
        self._database = database
        self._lease = timedelta(seconds=lease_seconds)

    async def has_due(self) -> bool:
        """Whether some task waits whose time has come."""
        return bool(await self._database.fetchval(HAS_DUE))

    async def claim(self) -> Claim | None:
        """The task that has waited longest, now GENERATING and ours; None when no task is due."""
        token = uuid.uuid4()
        row = await self._database.fetchrow(CLAIM, token, self._lease, DISPATCHER)
        return Claim(rows.task(row), token) if row else None

    async def mask(self, claim: Claim) -> bytes:
        """The mask of a task, b"" when it has none. Of tasks, nothing else reads masks."""
        return bytes(await self._database.fetchval(MASK, claim.task.id) or b"")

    async def beat(self, claim: Claim) -> bool:
        """Extend the lease."""
        return await self._database.execute(BEAT, claim.task.id, claim.token, self._lease) == 1

    async def add_image(self, claim: Claim, image: TaskImage) -> bool:
        """Record a stored image. False also when that candidate has its image already."""
        changed = await self._database.execute(ADD_IMAGE, claim.task.id, claim.token, DISPATCHER, *astuple(image))
        return changed == 1

    async def finish(self, claim: Claim) -> bool:
        """All images are recorded: the task awaits approval."""
        return await self._database.execute(FINISH, claim.task.id, claim.token, DISPATCHER) == 1

    async def give_back(self, claim: Claim, delay_seconds: float = 0.0) -> bool:
        """Return the task as if it had not been claimed; 0: to its old place in the queue."""
        delay = timedelta(seconds=delay_seconds)
        return await self._database.execute(GIVE_BACK, claim.task.id, claim.token, DISPATCHER, delay) == 1

    async def fail_attempt(self, claim: Claim, error: TaskError, delay_seconds: float) -> bool:
        """The attempt has failed: QUEUED again after the delay if `will_retry` and attempts are left, else FAILED."""
        changed = await self._database.execute(
            FAIL_ATTEMPT,
            claim.task.id,
            claim.token,
            DISPATCHER,
            error.reason,
            error.message,
            error.will_retry,
            timedelta(seconds=delay_seconds),
        )
        return changed == 1

    async def sweep(self, retry_base_seconds: float, retry_cap_seconds: float) -> int:
        """Take back what was claimed by dispatchers that are gone; the number of tasks."""
        base, cap = timedelta(seconds=retry_base_seconds), timedelta(seconds=retry_cap_seconds)
        return await self._database.execute(SWEEP, DISPATCHER, base, cap)

    async def forget_keys(self, days: int) -> int:
        """Delete idempotency keys older than `days`; the number of keys."""
        return await self._database.execute(FORGET_KEYS, timedelta(days=days))
