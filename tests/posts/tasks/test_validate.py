"""CreateTask asks the generators whether they accept the parameters."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.types.v1.generation_pb2 import GenerationParameters

from rpc import errors
from tests.posts.conftest import Client, StartPosts, reason, wrong_fields
from tests.posts.leaves import GENERATOR, ScriptedGenerator, png, serving

REFUSAL = errors.InvalidArgument.fields(
    [
        errors.FieldViolation("parameters.model", "must be one of scripted"),
        errors.FieldViolation("parameters.width", "must be 1024"),
    ]
)
NOWHERE = "127.0.0.1:1"


@pytest.fixture
async def second() -> AsyncIterator[Any]:
    """Another generator; its address is `target`."""
    servicer: Any = ScriptedGenerator()
    async with serving(servicer, GENERATOR) as handle:
        servicer.target = handle.address
        yield servicer


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


async def test_parameters_that_all_generators_refuse_are_refused(
    start_posts: StartPosts, generator: Any, second: Any, sql: Any
) -> None:
    generator.validation = second.validation = REFUSAL
    async with start_posts(worker=False, generator_targets=(generator.target, second.target)) as posts:
        error = await refused(posts.create(model="unknown"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert wrong_fields(error) == {"parameters.model", "parameters.width"}
    assert await sql.fetchval("SELECT count(*) FROM content_tasks") == 0


async def test_unconfigured_stock_photos_are_a_refusal(start_posts: StartPosts, generator: Any, second: Any) -> None:
    generator.validation = errors.FailedPrecondition("stock photos are not configured", reason="STOCK_NOT_CONFIGURED")
    async with start_posts(worker=False) as posts:
        assert reason(await refused(posts.create())) == "STOCK_NOT_CONFIGURED"
    second.validation = REFUSAL
    async with start_posts(worker=False, generator_targets=(generator.target, second.target)) as posts:
        assert wrong_fields(await refused(posts.create())) == {"parameters.model", "parameters.width"}


async def test_one_generator_that_accepts_is_enough(start_posts: StartPosts, generator: Any, second: Any) -> None:
    generator.validation = REFUSAL
    async with start_posts(worker=False, generator_targets=(generator.target, second.target)) as posts:
        assert (await posts.create(model="unknown")).id
    assert [parameters.model for parameters in second.validated] == ["unknown"]


@pytest.mark.parametrize(
    "failure",
    [errors.Unavailable("loading"), errors.Internal("broken"), errors.Unimplemented("old version")],
    ids=lambda failure: failure.reason,
)
async def test_generator_that_fails_does_not_refuse(start_posts: StartPosts, generator: Any, failure: Any) -> None:
    generator.validation = failure
    async with start_posts(worker=False) as posts:
        assert (await posts.create(model="unknown")).id


async def test_task_is_accepted_while_a_generator_does_not_answer(
    start_posts: StartPosts, generator: Any, second: Any
) -> None:
    generator.validation = REFUSAL
    second.validation = asyncio.Event()
    async with start_posts(worker=False, generator_targets=(generator.target, second.target, NOWHERE)) as posts:
        assert (await posts.create(model="unknown")).id
        second.validation.set()


async def test_repeated_request_finds_its_task_though_a_generator_refuses_now(
    start_posts: StartPosts, generator: Any
) -> None:
    request = t.CreateTaskRequest(request_id="key", parameters=GenerationParameters(prompt="x", model="unloaded"))
    async with start_posts(worker=False) as posts:
        task = (await posts.tasks.CreateTask(request)).task
        generator.validation = REFUSAL
        assert (await posts.tasks.CreateTask(request)).task == task
        request.parameters.prompt = "y"
        assert reason(await refused(posts.tasks.CreateTask(request))) == "IDEMPOTENCY_MISMATCH"


async def test_parameters_are_sent_normalised_with_the_mask(
    start_posts: StartPosts, generator: Any, storage: Any
) -> None:

    key = storage.put("generated/1.png", png(1), 64, 64)
    mask = png(3, 16, 16)
    async with start_posts(worker=False) as posts:
        await posts.create(" cafe\u0301 ", initial_image={"key": key, "mask": mask})
    (validated,) = generator.validated
    assert (validated.prompt, validated.initial_image.mask) == ("caf\u00e9", mask)


async def test_client_of_the_api_needs_no_generator(idle: Client) -> None:
    assert (await idle.create(model="unknown")).id
