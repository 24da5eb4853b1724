"""A model that is being loaded holds up only those who want it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch

from rpc import errors
from services.generator.engine import CheckpointError
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading import checkpoints
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.loading.tiny import make_checkpoint
from tests.generator.harness import Client, Reply, cpu_options, eventually, serve

ONE_MODEL_GIB = 8 * 2**20 / 2**30  # a little more than one of these


class Gate:
    """Loading goes on as before, but only while the gate is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.loading: list[str] = []
        self.failure: Exception | None = None


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made, load = Gate(), checkpoints.load
    made.open.set()

    def slow(checkpoint: Any, *arguments: Any, **options: Any) -> Any:
        made.loading.append(checkpoint.name)
        assert made.open.wait(30)
        if made.failure is not None:
            raise made.failure
        return load(checkpoint, *arguments, **options)

    monkeypatch.setattr(checkpoints, "load", slow)
    yield made
    made.open.set()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[ModelSource]:
    folder = tmp_path_factory.mktemp("several")
    for number, name in enumerate("abc"):
        make_checkpoint(folder / name, size=64, seed=number)
    return [ModelSource(name, str(folder / name)) for name in "abc"]


def engine_of(sources: list[ModelSource], **options: Any) -> SdxlEngine:
    return SdxlEngine(sources, cpu_options(Path("unused"), max_batch=2, **options))


@pytest.fixture
def engine(sources: list[ModelSource]) -> SdxlEngine:
    return engine_of(sources)


@pytest.fixture
async def client(engine: SdxlEngine, gate: Gate) -> AsyncIterator[Client]:
    async with serve(engine) as made:
        gate.open.clear()
        gate.loading.clear()
        yield made
        gate.open.set()


def start(client: Client, model: str, seed: int = 1, reply: Reply | None = None, **fields: Any) -> asyncio.Task[Reply]:
    wanted = {"prompt": "a", "num_inference_steps": 2, **fields}
    return asyncio.create_task(client.generate(model=model, seed=seed, reply=reply, **wanted))


async def test_others_are_served_while_a_model_is_loaded(client: Client, gate: Gate) -> None:
    waits = Reply()
    late = [start(client, "b", seed, waits if seed == 1 else None) for seed in (1, 2, 3)]
    await eventually(lambda: gate.loading == ["b"])
    replies = await asyncio.gather(*(start(client, "a", seed) for seed in (4, 5)))
    assert {reply.parameters.model for reply in replies} == {"a"}
    await eventually(lambda: bool(waits.all("queued")))
    await client.until(lambda now: (now.free_slot_count, now.queue_length) == (2, 3))  # who is held has no slot
    assert not any(task.done() for task in late)
    gate.open.set()
    assert {reply.parameters.model for reply in await asyncio.gather(*late)} == {"b"}
    assert gate.loading == ["b"]


async def test_an_image_on_its_way_goes_on(client: Client, gate: Gate) -> None:
    reply = Reply()
    going = start(client, "a", 1, reply, num_inference_steps=80)
    await eventually(lambda: bool(reply.all("progress")))
    late = start(client, "b")
    await eventually(lambda: gate.loading == ["b"])
    assert (await going).all("progress")[-1].step == 80
    assert not late.done()
    late.cancel()  # a waiting request may be cancelled
    await client.until(lambda now: now.queue_length == 0)


async def test_those_who_wait_for_a_model_leave_half_of_the_line_to_others(client: Client, gate: Gate) -> None:
    late = [start(client, "bc"[seed % 2], seed) for seed in range(5)]  # of 2 slots and 8 places
    await client.until(lambda now: now.queue_length == 5)
    for model in "bc":
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await start(client, model)
        error = errors.from_call(caught.value)
        assert isinstance(error, errors.ResourceExhausted)
        assert (error.reason, error.retry_after_seconds) == ("QUEUE_FULL", 5.0)
    others = await asyncio.gather(*(start(client, "a", seed) for seed in range(5)))
    assert {reply.parameters.model for reply in others} == {"a"}
    late.pop().cancel()
    await client.until(lambda now: now.queue_length == 4)
    late.append(start(client, "b", 9))
    await client.until(lambda now: now.queue_length == 5)
    gate.open.set()
    assert sorted(reply.parameters.seed for reply in await asyncio.gather(*late)) == [0, 1, 2, 3, 9]
    many = await asyncio.gather(*(start(client, "b", seed) for seed in range(10)))  # in memory now: all of the line
    assert {reply.parameters.model for reply in many} == {"b"}


async def test_a_line_without_places_still_loads_a_model(engine: SdxlEngine, gate: Gate) -> None:
    async with serve(engine, queue_capacity=0) as client:
        assert (await start(client, "b")).parameters.model == "b"


async def test_one_model_after_the_other(client: Client, gate: Gate) -> None:
    tasks = [start(client, "b"), start(client, "c")]
    await client.until(lambda now: now.queue_length == 2)
    assert len(gate.loading) == 1
    gate.open.set()
    assert [reply.parameters.model for reply in await asyncio.gather(*tasks)] == ["b", "c"]


async def test_one_that_cannot_be_loaded_fails_those_who_want_it_and_is_tried_again(client: Client, gate: Gate) -> None:
    gate.failure = CheckpointError("b is spoilt")
    gate.open.set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(client, "b")
    assert errors.from_call(caught.value).reason == "MODEL_UNUSABLE"
    assert (await start(client, "a")).parameters.model == "a"
    gate.failure = None
    assert (await start(client, "b")).parameters.model == "b"


class TestBudget:
    @pytest.fixture
    def engine(self, sources: list[ModelSource]) -> SdxlEngine:
        return engine_of(sources, memory_budget_gib=ONE_MODEL_GIB)

    async def test_a_model_in_use_is_not_unloaded_and_nobody_jumps_the_line(
        self, client: Client, gate: Gate, engine: SdxlEngine
    ) -> None:
        gate.open.set()
        reply = Reply()
        going = start(client, "a", 1, reply, num_inference_steps=80)
        await eventually(lambda: bool(reply.all("progress")))
        second = start(client, "b", 2)
        await client.until(lambda now: now.queue_length == 1)
        third = start(client, "a", 3)
        order: list[int] = []
        for task in (going, second, third):
            task.add_done_callback(lambda done: order.append(done.result().parameters.seed))
        await asyncio.gather(going, second, third)
        assert order == [1, 2, 3]
        assert gate.loading == ["b", "a"]
        assert engine.registry.loaded_names() == ["a"]


def test_the_default_type_that_all_threads_share_stays(
    sources: list[ModelSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise that another thread draws while a model is loaded in bfloat16 must not come out in bfloat16."""
    set_to = []
    monkeypatch.setattr(torch, "set_default_dtype", set_to.append)
    checkpoint = checkpoints.find(sources[0], Path("unused"))
    pipeline = checkpoints.load(checkpoint, torch.bfloat16, in_background=True)
    assert set(set_to) <= {torch.float32}
    assert {pipeline.unet.dtype, pipeline.vae.dtype, pipeline.text_encoder_2.dtype} == {torch.bfloat16}
    direct = checkpoints.load(checkpoint, torch.bfloat16)
    assert torch.bfloat16 in set_to
    for one, other in zip(pipeline.unet.parameters(), direct.unet.parameters(), strict=True):
        assert torch.equal(one, other)
