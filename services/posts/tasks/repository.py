"""Tasks as users see them: created once, read, listed, cancelled, retried, and decided by exactly one editor."""

import secrets
import uuid

from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.types.v1 import generation_pb2

from rpc import errors
from rpc.limits import limits
from services.posts.content import etags
from services.posts.content.addresses import Addresses
from services.posts.content.create import created_earlier, insert_post
from services.posts.content.texts.deriving import Deriving
from services.posts.database import idempotency, paging, rows
from services.posts.database.database import Connection, Database, Record
from services.posts.database.json_columns import to_json
from services.posts.database.where import Where
from services.posts.models import STATE_NAMES, NewPost
from services.posts.tasks import statements

_MAX_INTEGER = 2**31 - 1  # of PostgreSQL
_ALT_TEXT_LENGTH = limits(t.ApproveTaskRequest, "alt_text").max_length


class Tasks:
    """What users do with tasks. Every method raises Unavailable if the database cannot serve."""

    def __init__(self, database: Database, texts: Deriving, addresses: Addresses, max_attempts: int) -> None:
        """A task gets `max_attempts` attempts when it is created or retried."""
        self._database = database
        self._texts = texts
        self._addresses = addresses
        self._max_attempts = max_attempts

    async def create(self, principal: str, request: t.CreateTaskRequest) -> t.Task:
        """Queue a task, or return the task of the same earlier request. Raises AlreadyExists for another request."""
        new_id = uuid.UUID(request.task_id) if request.task_id else uuid.uuid4()
        request_hash, key_hash = _hashes(request)
        statement = statements.CREATE(
            id=new_id,
            parameters=to_json(_stored(request.parameters)),
            candidate_count=request.candidate_count,
            request_hash=request_hash,
            max_attempts=self._max_attempts,
            actor=principal,
            mask=request.parameters.initial_image.mask,
        )

        async def work(connection: Connection) -> t.Task:
            key = idempotency.Key(principal, "CreateTask", request.request_id, key_hash)
            if earlier := await idempotency.reserve(connection, key, new_id):
                return await _get(connection, earlier)
            created = await connection.fetchval(*statement)
            if created is None and await connection.fetchval(statements.REQUEST_HASH, new_id) != request_hash:
                raise idempotency.mismatch("task_id")
            return await _get(connection, new_id)

        return await self._database.transaction(work)

    async def created_earlier(self, principal: str, request: t.CreateTaskRequest) -> t.Task | None:
        """The task that the same request created earlier, or None. Raises AlreadyExists for another request."""
        request_hash, key_hash = _hashes(request)

        async def work(connection: Connection) -> t.Task | None:
            key = idempotency.Key(principal, "CreateTask", request.request_id, key_hash)
            if earlier := await idempotency.find(connection, key):
                return await _get(connection, earlier)
            if not request.task_id:
                return None
            known = await connection.fetchval(statements.REQUEST_HASH, uuid.UUID(request.task_id))
            if known is None:
                return None
            if known != request_hash:
                raise idempotency.mismatch("task_id")
            return await _get(connection, uuid.UUID(request.task_id))

        return await self._database.transaction(work)

    async def get(self, task_id: uuid.UUID) -> t.Task:
        """Read one task. Raises NotFound."""
        return _found(await self._database.fetchrow(statements.GET, task_id), task_id)

    async def list(self, state: t.TaskState, page_size: int, page_token: str) -> paging.Page[t.Task]:
        """Tasks in a state (UNSPECIFIED: any), newest first. Raises InvalidArgument for a bad token."""
        name = STATE_NAMES.get(state)
        cursor = paging.cursor(page_size, page_token, "tasks", name)
        where = Where()
        if name:
            where.add("state = {0}", name)
        if cursor.time is not None:
            where.add(statements.AFTER, cursor.time, cursor.id)
        statement = statements.LIST.format(where=where.clause, limit=where.place(cursor.size + 1))
        found = await self._database.fetch(statement, *where.values)
        page = paging.page(found, cursor, lambda row: (paging.microseconds(row["create_time"]), str(row["id"])))
        return page.map(rows.task)

    async def cancel(self, principal: str, task_id: uuid.UUID, etag: str = "") -> t.Task:
        """Cancel a task that is QUEUED or GENERATING. Raises NotFound, FailedPrecondition, Aborted (etag)."""

        async def work(connection: Connection) -> t.Task:
            await _check_etag(connection, etag, task_id)
            changed = await connection.fetchval(*statements.CANCEL(id=task_id, actor=principal))
            task = await _get(connection, task_id)
            if changed is None and task.state != t.TASK_STATE_CANCELLED:
                raise _wrong_state(task, "only a queued or generating task can be cancelled")
            return task

        return await self._database.transaction(work)

    async def retry(self, principal: str, request: t.RetryTaskRequest, task_id: uuid.UUID) -> t.Task:
        """Queue a FAILED or CANCELLED task again, once for each request_id.

        Raises NotFound, FailedPrecondition, AlreadyExists (the request_id was used for another task), Aborted (etag).
        """
        key = idempotency.Key.of(principal, "RetryTask", request)

        async def work(connection: Connection) -> t.Task:
            if await idempotency.reserve(connection, key, task_id):
                return await _get(connection, task_id)
            await _check_etag(connection, request.etag, task_id)
            statement = statements.RETRY(id=task_id, actor=principal, max_attempts=self._max_attempts)
            changed = await connection.fetchval(*statement)
            task = await _get(connection, task_id)
            if changed is None:
                raise _wrong_state(task, "only a failed or cancelled task can be retried")
            return task

        return await self._database.transaction(work)

    async def approve(
        self, principal: str, request: t.ApproveTaskRequest, task_id: uuid.UUID, new: NewPost
    ) -> t.ApproveTaskResponse:
        """Approve one image and create the post in one transaction, or return the post of the same earlier request.

        Raises NotFound, InvalidArgument (no such image), FailedPrecondition (no such author or category; the task does
        not await approval), AlreadyExists (slug; request_id with another request), Aborted (decided by another call;
        etag).
        """
        post_id = uuid.uuid4()
        key = idempotency.Key.of(principal, "ApproveTask", request)
        derived = await self._texts.derive(new.title, new.content)

        async def work(connection: Connection) -> t.ApproveTaskResponse:
            if earlier := await idempotency.reserve(connection, key, post_id):
                post = await created_earlier(connection, earlier)
                return t.ApproveTaskResponse(task=await _get(connection, task_id), post=post)
            await _check_etag(connection, request.etag, task_id)
            index = min(request.image_index, _MAX_INTEGER)
            await _decide(connection, task_id, principal, t.TASK_STATE_APPROVED, post_id=post_id, image_index=index)
            task = await _get(connection, task_id)
            if request.image_index >= len(task.images):
                raise errors.InvalidArgument.field("image_index", f"must be less than {len(task.images)}")
            image = task.images[request.image_index]
            featured = p.FeaturedImage(
                image=image.image,
                alt_text=new.alt_text or task.parameters.prompt[:_ALT_TEXT_LENGTH],
                image_source=image.image_source,
            )
            post = await insert_post(connection, post_id, new, derived, featured, task_id, principal, self._addresses)
            return t.ApproveTaskResponse(task=task, post=post)

        return await self._database.transaction(work)

    async def reject(self, principal: str, request: t.RejectTaskRequest, task_id: uuid.UUID) -> t.Task:
        """Reject the images, once for each request_id.

        Raises NotFound, FailedPrecondition (the task does not await approval), AlreadyExists (request_id with another
        request), Aborted (decided by another call; etag).
        """
        key = idempotency.Key.of(principal, "RejectTask", request)

        async def work(connection: Connection) -> t.Task:
            if not await idempotency.reserve(connection, key, task_id):
                await _check_etag(connection, request.etag, task_id)
                await _decide(connection, task_id, principal, t.TASK_STATE_REJECTED, comment=request.comment)
            return await _get(connection, task_id)

        return await self._database.transaction(work)


def _stored(parameters: generation_pb2.GenerationParameters) -> generation_pb2.GenerationParameters:
    """The parameters to store: with a seed, so that every attempt makes the same images, and without the mask."""
    stored = generation_pb2.GenerationParameters()
    stored.CopyFrom(parameters)
    if not stored.HasField("seed"):
        stored.seed = secrets.randbelow(2**32)
    if stored.HasField("initial_image"):
        stored.initial_image.has_mask = bool(stored.initial_image.mask)
        stored.initial_image.ClearField("mask")
    return stored


def _hashes(request: t.CreateTaskRequest) -> tuple[bytes, bytes]:
    """The hashes that detect another request with the same task_id, and with the same request_id."""
    return idempotency.digest(request, "request_id", "task_id"), idempotency.digest(request, "request_id")


async def _get(connection: Connection, task_id: uuid.UUID) -> t.Task:
    return _found(await connection.fetchrow(statements.GET, task_id), task_id)


def _found(row: Record | None, task_id: uuid.UUID) -> t.Task:
    if row is None:
        raise _no_task(task_id)
    return rows.task(row)


def _no_task(task_id: uuid.UUID) -> errors.NotFound:
    return errors.NotFound(f"there is no task {task_id}", reason="TASK_NOT_FOUND")


async def _check_etag(connection: Connection, given: str, task_id: uuid.UUID) -> None:
    """Raise Aborted if the task has another etag, NotFound if there is no such task. The task stays locked."""
    if given:
        current = await connection.fetchval(statements.LOCK, task_id)
        if current is None:
            raise _no_task(task_id)
        etags.check(given, current, "task")


async def _decide(
    connection: Connection,
    task_id: uuid.UUID,
    principal: str,
    state: t.TaskState,
    *,
    post_id: uuid.UUID | None = None,
    image_index: int | None = None,
    comment: str = "",
) -> None:
    statement = statements.DECIDE(
        id=task_id,
        actor=principal,
        state=STATE_NAMES[state],
        post_id=post_id,
        image_index=image_index,
        comment=comment,
    )
    if await connection.fetchval(*statement) is not None:
        return
    task = await _get(connection, task_id)
    if task.state in (t.TASK_STATE_APPROVED, t.TASK_STATE_REJECTED):
        raise errors.Aborted(
            f"the task is already {STATE_NAMES[task.state]}, by {task.updated_by}",
            reason="ALREADY_DECIDED",
            metadata={"state": STATE_NAMES[task.state].upper()},
        )
    raise _wrong_state(task, "its images do not await approval")


def _wrong_state(task: t.Task, why: str) -> errors.FailedPrecondition:
    name = STATE_NAMES[task.state]
    return errors.FailedPrecondition(
        f"the task is {name}: {why}", reason="WRONG_TASK_STATE", metadata={"state": name.upper()}
    )
