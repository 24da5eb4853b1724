"""Tasks as callers see them: made once, read, listed, cancelled, retried, and decided about by exactly one editor."""

import secrets
import uuid
from dataclasses import replace

from rpc import errors
from services.posts.content.create import insert_post, made_earlier
from services.posts.database import idempotency, paging, rows
from services.posts.database.database import Database, Record
from services.posts.database.pool import Connection
from services.posts.database.where import Conditions
from services.posts.models import Draft, FeaturedImage, Parameters, Post, Task, TaskImage, TaskState
from services.posts.validation import MAX_ALT_TEXT

MASK_FEATHER = 8
"""How soft the border of a mask is, in pixels, when nobody says."""

CREATE = """
WITH made AS (
    INSERT INTO content_tasks (id, request_hash, max_attempts, created_by, updated_by, last_sequence,
        prompt, negative_prompt, width, height, num_inference_steps, guidance_scale, seed, scheduler, model,
        use_generation, candidate_count, guidance_end, loras, denoising_end, initial_image, initial_image_keep_at)
    VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
        CASE WHEN $19::jsonb IS NOT NULL THEN clock_timestamp() END)
    ON CONFLICT (id) DO NOTHING
    RETURNING *
), mask AS (
    INSERT INTO task_masks (task_id, data) SELECT id, $20 FROM made WHERE $20::bytea <> ''
)
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state)
SELECT id, last_sequence, 'state', 0, created_by, state FROM made
RETURNING task_id
"""

REQUEST_HASH = "SELECT request_hash FROM content_tasks WHERE id = $1"

COLUMNS = f"""
id, state, {", ".join(rows.PARAMETERS)}, images, attempt_count, max_attempts, error_reason, error_message,
error_will_retry, post_id, last_sequence, created_by, updated_by, create_time, update_time
"""

GET = f"SELECT {COLUMNS}, queue_position FROM task_records WHERE id = $1"  # noqa: S608  (made of constants)

# The view counts who is before a task for each task. A page of them looks once at the front of the queue instead.
LIST = f"""
SELECT {COLUMNS}, CASE WHEN state = 'queued' THEN coalesce(array_position((
    SELECT array_agg(front.id ORDER BY front.run_at, front.id) FROM (
        SELECT id, run_at FROM content_tasks WHERE state = 'queued' ORDER BY run_at, id LIMIT 1000
    ) front), id) - 1, 1000) END AS queue_position
FROM task_records {{where}} ORDER BY create_time DESC, id DESC LIMIT {{limit}}
"""  # noqa: S608  (made of constants)

AFTER = "(create_time, id) < ({0}, {1})"

# The lease goes with the state, so that whoever works on the task finds that it has lost it.
CANCEL = """
WITH changed AS (
    UPDATE content_tasks SET state = 'cancelled', lease_token = NULL, lease_until = NULL,
        error_will_retry = CASE WHEN error_reason IS NOT NULL THEN false END,
        last_sequence = last_sequence + 1, updated_by = $2, update_time = clock_timestamp()
    WHERE id = $1 AND state IN ('queued', 'generating')
    RETURNING *
)
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state)
SELECT id, last_sequence, 'state', attempt_count, updated_by, state FROM changed
RETURNING task_id
"""

# Attempts go on counting, so that a number names one attempt for ever.
RETRY = """
WITH changed AS (
    UPDATE content_tasks SET state = 'queued', run_at = clock_timestamp(), max_attempts = attempt_count + $3,
        error_reason = NULL, error_message = NULL, error_will_retry = NULL,
        last_sequence = last_sequence + 1, updated_by = $2, update_time = clock_timestamp()
    WHERE id = $1 AND state IN ('failed', 'cancelled')
    RETURNING *
)
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state)
SELECT id, last_sequence, 'state', attempt_count, updated_by, state FROM changed
RETURNING task_id
"""

# The first of two editors locks the row; the second finds another state, and changes nothing.
DECIDE = """
WITH changed AS (
    UPDATE content_tasks SET state = $3, post_id = $4,
        last_sequence = last_sequence + 1, updated_by = $2, update_time = clock_timestamp()
    WHERE id = $1 AND state = 'awaiting_approval'
    RETURNING *
)
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state, post_id, comment)
SELECT id, last_sequence, 'state', attempt_count, updated_by, state, post_id, $5 FROM changed
RETURNING task_id
"""


class Tasks:
    """What callers do with tasks. Every method raises Unavailable when the database cannot serve."""

    def __init__(self, database: Database, max_attempts: int) -> None:
        """New and retried tasks get `max_attempts` attempts."""
        self._database = database
        self._max_attempts = max_attempts

    async def create(
        self, principal: str, request_id: str, task_id: uuid.UUID | None, parameters: Parameters, mask: bytes = b""
    ) -> Task:
        """Queue a task, or find the one made by the same request. Raises AlreadyExists for another body."""
        request_hash, key_hash = _digests(parameters, task_id)
        new_id = task_id or uuid.uuid4()
        chosen = _chosen(parameters)

        async def work(connection: Connection) -> Task:
            earlier = await idempotency.reserve(connection, principal, "CreateTask", request_id, key_hash, new_id)
            if earlier:
                return await _get(connection, earlier)
            made = await connection.fetchval(
                CREATE, new_id, request_hash, self._max_attempts, principal, *rows.columns(chosen), mask
            )
            if made is None and await connection.fetchval(REQUEST_HASH, new_id) != request_hash:
                raise idempotency.mismatch("task_id")
            return await _get(connection, new_id)

        return await self._database.transaction(work)

    async def made(
        self, principal: str, request_id: str, task_id: uuid.UUID | None, parameters: Parameters
    ) -> Task | None:
        """The task that the same request made before, or None. Raises AlreadyExists for another body."""
        request_hash, key_hash = _digests(parameters, task_id)

        async def work(connection: Connection) -> Task | None:
            if request_id:
                earlier = await idempotency.find(connection, principal, "CreateTask", request_id, key_hash)
                if earlier:
                    return await _get(connection, earlier)
            known = await connection.fetchval(REQUEST_HASH, task_id) if task_id else None
            if task_id is None or known is None:
                return None
            if known != request_hash:
                raise idempotency.mismatch("task_id")
            return await _get(connection, task_id)

        return await self._database.transaction(work)

    async def get(self, task_id: uuid.UUID) -> Task:
        """Read one task. Raises NotFound."""
        return _found(await self._database.fetchrow(GET, task_id), task_id)

    async def list(self, state: TaskState | None, page_size: int, page_token: str) -> paging.Page[Task]:
        """Tasks, newest first. Raises InvalidArgument for a bad token."""
        at = paging.cursor(page_size, page_token, "tasks", state)
        asked = Conditions()
        if state is not None:
            asked.add("state = {0}", state)
        if at.time is not None:
            asked.add(AFTER, at.time, at.id)
        statement = LIST.format(where=asked.where, limit=asked.place(at.size + 1))
        found = await self._database.fetch(statement, *asked.values)
        page = paging.page(found, at, lambda row: (paging.microseconds(row["create_time"]), str(row["id"])))
        return page.map(rows.task)

    async def cancel(self, principal: str, task_id: uuid.UUID) -> Task:
        """Stop a task that is QUEUED or GENERATING. Raises NotFound, FailedPrecondition."""

        async def work(connection: Connection) -> Task:
            changed = await connection.fetchval(CANCEL, task_id, principal)
            task = await _get(connection, task_id)
            if changed is None and task.state is not TaskState.CANCELLED:
                raise _wrong_state(task, "only a queued or generating task can be cancelled")
            return task

        return await self._database.transaction(work)

    async def retry(self, principal: str, request_id: str, task_id: uuid.UUID) -> Task:
        """Queue a FAILED or CANCELLED task again, once for a request_id.

        Raises NotFound, FailedPrecondition, AlreadyExists (request_id of another task).
        """
        request_hash = idempotency.digest(task_id)

        async def work(connection: Connection) -> Task:
            if await idempotency.reserve(connection, principal, "RetryTask", request_id, request_hash, task_id):
                return await _get(connection, task_id)
            changed = await connection.fetchval(RETRY, task_id, principal, self._max_attempts)
            task = await _get(connection, task_id)
            if changed is None:
                raise _wrong_state(task, "only a failed or cancelled task can be retried")
            return task

        return await self._database.transaction(work)

    async def approve(
        self, principal: str, request_id: str, task_id: uuid.UUID, image_index: int, draft: Draft
    ) -> tuple[Task, Post]:
        """Accept one image and make the post, in one transaction, or find the one made by the same request.

        Raises NotFound, InvalidArgument (no such image), FailedPrecondition (no such author or category, or nothing to
        decide yet), AlreadyExists (slug, or request_id with another body), Aborted (decided by another call).
        """
        post_id = uuid.uuid4()
        request_hash = idempotency.digest(draft, task_id, image_index)

        async def work(connection: Connection) -> tuple[Task, Post]:
            earlier = await idempotency.reserve(connection, principal, "ApproveTask", request_id, request_hash, post_id)
            if earlier:
                return await _get(connection, task_id), await made_earlier(connection, earlier)
            await _decide(connection, task_id, principal, TaskState.APPROVED, post_id=post_id)
            task = await _get(connection, task_id)
            if image_index >= len(task.images):
                raise errors.InvalidArgument.field("image_index", f"must be below {len(task.images)}")
            picture = _featured(task.images[image_index], draft.alt_text or task.parameters.prompt[:MAX_ALT_TEXT])
            return task, await insert_post(connection, post_id, draft, picture, task_id, principal)

        return await self._database.transaction(work)

    async def reject(self, principal: str, request_id: str, task_id: uuid.UUID, comment: str) -> Task:
        """Refuse the images, once for a request_id.

        Raises NotFound, FailedPrecondition (nothing to decide yet), AlreadyExists (request_id with another body),
        Aborted (decided by another call).
        """
        request_hash = idempotency.digest(task_id, comment)

        async def work(connection: Connection) -> Task:
            if await idempotency.reserve(connection, principal, "RejectTask", request_id, request_hash, task_id):
                return await _get(connection, task_id)
            await _decide(connection, task_id, principal, TaskState.REJECTED, comment=comment)
            return await _get(connection, task_id)

        return await self._database.transaction(work)


def _chosen(parameters: Parameters) -> Parameters:
    """The parameters with all that is not left to the generator: every attempt paints the same picture."""
    initial = parameters.initial_image
    if initial and initial.mask_sha256 and initial.mask_feather is None:
        initial = replace(initial, mask_feather=MASK_FEATHER)
    seed = secrets.randbelow(2**32) if parameters.seed is None else parameters.seed
    return replace(parameters, seed=seed, initial_image=initial)


def _digests(parameters: Parameters, task_id: uuid.UUID | None) -> tuple[bytes, bytes]:
    """What tells another body under the same task_id, and under the same request_id. A URL is no part of a request."""
    initial = parameters.initial_image
    asked = replace(parameters, initial_image=replace(initial, url="")) if initial else parameters
    return idempotency.digest(asked), idempotency.digest(asked, task_id)


async def _get(connection: Connection, task_id: uuid.UUID) -> Task:
    return _found(await connection.fetchrow(GET, task_id), task_id)


def _found(row: Record | None, task_id: uuid.UUID) -> Task:
    if row is None:
        raise errors.NotFound(f"there is no task {task_id}", reason="TASK_NOT_FOUND")
    return rows.task(row)


async def _decide(
    connection: Connection,
    task_id: uuid.UUID,
    principal: str,
    state: TaskState,
    *,
    post_id: uuid.UUID | None = None,
    comment: str = "",
) -> None:
    if await connection.fetchval(DECIDE, task_id, principal, state, post_id, comment) is not None:
        return
    task = await _get(connection, task_id)
    if task.state in (TaskState.APPROVED, TaskState.REJECTED):
        raise errors.Aborted(
            f"the task is {task.state} already, by {task.updated_by}",
            reason="ALREADY_DECIDED",
            metadata={"state": task.state.upper()},
        )
    raise _wrong_state(task, "its images do not await approval")


def _wrong_state(task: Task, why: str) -> errors.FailedPrecondition:
    return errors.FailedPrecondition(
        f"the task is {task.state}: {why}", reason="WRONG_TASK_STATE", metadata={"state": task.state.upper()}
    )


def _featured(image: TaskImage, alt_text: str) -> FeaturedImage:
    return FeaturedImage(
        key=image.key,
        url=image.url,
        alt_text=alt_text,
        width=image.width,
        height=image.height,
        thumbhash=image.thumbhash,
        image_source=image.image_source,
    )
