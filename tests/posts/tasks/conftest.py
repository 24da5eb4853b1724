"""A queue on a database, and the tasks and images that its tests use."""

import itertools
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.types.v1 import generation_pb2, image_pb2

from services.posts.content.texts import deriving
from services.posts.database.database import Database, connected
from services.posts.tasks.queue import Claim, Queue
from services.posts.tasks.repository import Tasks
from tests.posts.conftest import ADDRESSES

TRANSIENT = t.TaskError(reason="GENERATOR_UNAVAILABLE", message="gone", will_retry=True)
PERMANENT = t.TaskError(reason="INVALID_ARGUMENT", message="bad", will_retry=False)

# Which state may follow which. The history of a task is a path through this graph.
STEPS = {
    None: {"queued"},
    "queued": {"generating", "cancelled"},
    "generating": {"queued", "awaiting_approval", "failed", "cancelled"},
    "awaiting_approval": {"approved", "rejected"},
    "failed": {"queued"},
    "cancelled": {"queued"},
    "approved": set(),
    "rejected": set(),
}


@pytest.fixture
async def database(record_url: str) -> AsyncIterator[Database]:
    async with connected(record_url, "test", size=10, wait_seconds=5) as opened:
        yield opened


@pytest.fixture
async def tasks(database: Database) -> AsyncIterator[Tasks]:
    async with deriving.running(()) as texts:
        yield Tasks(database, texts, ADDRESSES, max_attempts=3)


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database, lease_seconds=60)


def image(index: int = 0) -> t.TaskImage:
    file = image_pb2.ImageFile(content_type="image/png", size_bytes=1, sha256="0" * 64, width=64, height=64)
    return t.TaskImage(
        index=index,
        image=image_pb2.StoredImage(key=f"generated/{index}.png", file=file),
        image_source="sdxl-local",
        generation=generation_pb2.Generation(batch_size=1),
    )


def new(request_id: str = "", candidate_count: int = 1) -> t.CreateTaskRequest:
    parameters = generation_pb2.GenerationParameters(prompt="x")
    return t.CreateTaskRequest(request_id=request_id, parameters=parameters, candidate_count=candidate_count)


async def make(tasks: Tasks, candidate_count: int = 1) -> t.Task:
    return await tasks.create("test", new(candidate_count=candidate_count))


def id_of(task: t.Task) -> uuid.UUID:
    return uuid.UUID(task.id)


async def claimed(queue: Queue) -> Claim:
    claim = await queue.claim()
    assert claim is not None
    return claim


async def assert_histories_are_valid(sql: Any) -> None:
    """The events of every task have no gap, are a path through STEPS, and end in the state of the task."""
    for row in await sql.fetch("SELECT id, state, last_sequence FROM content_tasks"):
        events = await sql.fetch("SELECT * FROM task_events WHERE task_id = $1 ORDER BY sequence", row["id"])
        assert [event["sequence"] for event in events] == list(range(1, row["last_sequence"] + 1))
        states = [None, *(event["state"] for event in events if event["kind"] == "state")]
        for before, after in itertools.pairwise(states):
            assert after in STEPS[before], states
        assert states[-1] == row["state"]
