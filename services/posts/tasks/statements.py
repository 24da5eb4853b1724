"""All SQL about tasks.

Each statement that changes a task is one transaction: the row of the task, its event and (by trigger) its notification
change together or not at all. Times are those of the database server.
"""

# ruff: noqa: S608  (the statements are made of constants)

from services.posts.database.sql import Sql

# The end of a statement whose `changed` are tasks that entered a state.
_STATE_EVENT = """
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state)
SELECT id, last_sequence, 'state', attempt_count, updated_by, state FROM changed
"""

_FAILURE_EVENT = """
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state, error_reason, error_message, error_will_retry)
SELECT id, last_sequence, 'state', attempt_count, updated_by, state, error_reason, error_message, error_will_retry
FROM changed
"""

_CHANGED = "last_sequence = last_sequence + 1, updated_by = :actor, update_time = clock_timestamp()"

_NO_LEASE = "lease_token = NULL, lease_until = NULL"

CREATE = Sql(
    """
WITH changed AS (
    INSERT INTO content_tasks (id, parameters, candidate_count, request_hash, max_attempts, created_by, updated_by,
        last_sequence, initial_image_keep_at)
    VALUES (:id, :parameters::jsonb, :candidate_count, :request_hash, :max_attempts, :actor, :actor, 1,
        CASE WHEN :parameters::jsonb ? 'initial_image' THEN clock_timestamp() END)
    ON CONFLICT (id) DO NOTHING
    RETURNING *
), mask AS (
    INSERT INTO task_masks (task_id, data) SELECT id, :mask FROM changed WHERE :mask::bytea <> ''
)
"""
    + _STATE_EVENT
    + "RETURNING task_id"
)

REQUEST_HASH = "SELECT request_hash FROM content_tasks WHERE id = $1"

# For a request with an etag: the lock makes sure that nothing changes between the comparison and the change.
LOCK = "SELECT last_sequence FROM content_tasks WHERE id = $1 FOR UPDATE"

_COLUMNS = """
id, state, parameters, candidate_count, images, attempt_count, max_attempts, error_reason, error_message,
error_will_retry, post_id, approved_image_index, last_sequence, created_by, updated_by, create_time, update_time
"""

GET = f"SELECT {_COLUMNS}, queue_position FROM task_records WHERE id = $1"

# The view counts the earlier tasks for each task. For a page it is cheaper to read the front of the queue once.
LIST = f"""
SELECT {_COLUMNS}, CASE WHEN state = 'queued' THEN coalesce(array_position((
    SELECT array_agg(front.id ORDER BY front.run_at, front.id) FROM (
        SELECT id, run_at FROM content_tasks WHERE state = 'queued' ORDER BY run_at, id LIMIT 1000
    ) front), id) - 1, 1000) END AS queue_position
FROM task_records {{where}} ORDER BY create_time DESC, id DESC LIMIT {{limit}}
"""

AFTER = "(create_time, id) < ({0}, {1})"

# The lease ends with the state, so the worker that executes the task notices.
CANCEL = Sql(f"""
WITH changed AS (
    UPDATE content_tasks SET state = 'cancelled', {_NO_LEASE},
        error_will_retry = CASE WHEN error_reason IS NOT NULL THEN false END, {_CHANGED}
    WHERE id = :id AND state IN ('queued', 'generating')
    RETURNING *
)
{_STATE_EVENT} RETURNING task_id
""")

# attempt_count is not reset, so that a number identifies one attempt of a task.
RETRY = Sql(f"""
WITH changed AS (
    UPDATE content_tasks SET state = 'queued', run_at = clock_timestamp(), max_attempts = attempt_count + :max_attempts,
        error_reason = NULL, error_message = NULL, error_will_retry = NULL, {_CHANGED}
    WHERE id = :id AND state IN ('failed', 'cancelled')
    RETURNING *
)
{_STATE_EVENT} RETURNING task_id
""")

# Of two editors the first locks the row. The second finds another state and changes nothing.
DECIDE = Sql(f"""
WITH changed AS (
    UPDATE content_tasks SET state = :state, post_id = :post_id, approved_image_index = :image_index, {_CHANGED}
    WHERE id = :id AND state = 'awaiting_approval'
    RETURNING *
)
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state, post_id, comment)
SELECT id, last_sequence, 'state', attempt_count, updated_by, state, post_id, :comment FROM changed
RETURNING task_id
""")

READY = "SELECT EXISTS (SELECT FROM content_tasks WHERE state = 'queued' AND run_at <= clock_timestamp())"

CLAIM = Sql(f"""
WITH next AS (
    SELECT id FROM content_tasks
    WHERE state = 'queued' AND run_at <= clock_timestamp()
    ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE content_tasks t SET state = 'generating', attempt_count = attempt_count + 1,
        lease_token = :token, lease_until = clock_timestamp() + :lease::interval, {_CHANGED}
    FROM next WHERE t.id = next.id RETURNING t.*
), event AS (
    {_STATE_EVENT}
)
SELECT t.*, NULL::bigint AS queue_position,
    (SELECT json_agg(i.image ORDER BY i.index) FROM task_images i WHERE i.task_id = t.id) AS images
FROM changed t
""")

HEARTBEAT = Sql("""
UPDATE content_tasks SET lease_until = clock_timestamp() + :lease::interval WHERE id = :id AND lease_token = :token
""")

ADD_IMAGE = Sql("""
WITH changed AS (
    UPDATE content_tasks SET last_sequence = last_sequence + 1, update_time = clock_timestamp()
    WHERE id = :id AND lease_token = :token
        AND NOT EXISTS (SELECT FROM task_images i WHERE i.task_id = :id AND i.index = :index)
    RETURNING id, last_sequence, attempt_count
), image AS (
    INSERT INTO task_images (task_id, index, image) SELECT id, :index, :image FROM changed
)
INSERT INTO task_events (task_id, sequence, kind, attempt, actor, image_index)
SELECT id, last_sequence, 'image', attempt_count, :actor, :index FROM changed
""")

FINISH = Sql(f"""
WITH changed AS (
    UPDATE content_tasks t SET state = 'awaiting_approval', {_NO_LEASE},
        error_reason = NULL, error_message = NULL, error_will_retry = NULL, {_CHANGED}
    WHERE id = :id AND lease_token = :token
        AND candidate_count = (SELECT count(*) FROM task_images i WHERE i.task_id = t.id)
    RETURNING *
)
{_STATE_EVENT}
""")

# The attempt does not count: its end was not the fault of the task.
RELEASE = Sql(f"""
WITH changed AS (
    UPDATE content_tasks SET state = 'queued', attempt_count = attempt_count - 1,
        run_at = CASE WHEN :delay::interval = '0' THEN run_at ELSE clock_timestamp() + :delay::interval END,
        {_NO_LEASE}, {_CHANGED}
    WHERE id = :id AND lease_token = :token
    RETURNING *
)
{_STATE_EVENT}
""")

FAIL_ATTEMPT = Sql(f"""
WITH changed AS (
    UPDATE content_tasks SET
        state = CASE WHEN :will_retry AND attempt_count < max_attempts THEN 'queued' ELSE 'failed' END,
        error_reason = :reason, error_message = :message,
        error_will_retry = :will_retry AND attempt_count < max_attempts,
        run_at = clock_timestamp() + :delay::interval, {_NO_LEASE}, {_CHANGED}
    WHERE id = :id AND lease_token = :token
    RETURNING *
)
{_FAILURE_EVENT}
""")

REAP = Sql(f"""
WITH expired AS (
    SELECT id FROM content_tasks
    WHERE state = 'generating' AND lease_until < clock_timestamp()
    ORDER BY lease_until LIMIT 100 FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE content_tasks t SET
        state = CASE WHEN attempt_count < max_attempts THEN 'queued' ELSE 'failed' END,
        error_reason = 'WORKER_LOST', error_message = 'the worker that executed the task was lost',
        error_will_retry = attempt_count < max_attempts,
        run_at = clock_timestamp() + least(:base::interval * power(2, least(attempt_count - 1, 20)), :cap::interval),
        {_NO_LEASE}, {_CHANGED}
    FROM expired WHERE t.id = expired.id
    RETURNING t.*
)
{_FAILURE_EVENT}
""")

MASK = "SELECT data FROM task_masks WHERE task_id = $1"

READ_EVENTS = """
SELECT e.task_id, e.sequence, e.time, e.kind, e.attempt, e.actor, e.state, e.error_reason, e.error_message,
    e.error_will_retry, e.post_id, e.comment, t.last_sequence, i.image
FROM task_events e
JOIN content_tasks t ON t.id = e.task_id
LEFT JOIN task_images i ON i.task_id = e.task_id AND i.index = e.image_index
WHERE e.task_id = $1 AND e.sequence > $2
ORDER BY e.sequence LIMIT $3
"""

CURRENT = "SELECT state, last_sequence, attempt_count FROM content_tasks WHERE id = $1"

LAST_SEQUENCES = "SELECT id, last_sequence FROM content_tasks WHERE id = ANY ($1::uuid[])"
