"""Which requests wait, which are refused, which is next, and what ends a request."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import grpc
import pytest

from rpc import errors
from tests.generator.fake import FakeEngine
from tests.generator.harness import Client, Reply, eventually, generate_request, serve


@pytest.fixture(params=[False, True], ids=["steps on the CPU", "steps on a device"])
def engine(request: pytest.FixtureRequest) -> FakeEngine:
    return FakeEngine(slots=2, launches=request.param)


@pytest.fixture
async def client(engine: FakeEngine) -> AsyncIterator[Client]:
    async with serve(engine, queue_capacity=3) as made:
        yield made
        engine.gate.set()
        engine.may_prepare.set()


def start(client: Client, seed: int, **fields: object) -> asyncio.Task[Reply]:
    return asyncio.create_task(client.generate(prompt="a", seed=seed, **fields))


async def busy(client: Client, unfinished: int) -> None:
    """Wait until so many are in work or waiting."""
    await client.until(lambda now: now.slot_count - now.free_slot_count + now.queue_length == unfinished)


class TestWaiting:
    async def test_a_full_line_refuses_and_says_when_to_come_again(self, client: Client, engine: FakeEngine) -> None:
        engine.gate.clear()
        tasks = [start(client, seed) for seed in range(5)]
        await busy(client, 5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.generate(prompt="a", seed=9)
        error = errors.from_call(caught.value)
        assert isinstance(error, errors.ResourceExhausted)
        assert error.reason == "QUEUE_FULL"
        assert error.retry_after_seconds is not None
        assert error.retry_after_seconds >= 0.5
        engine.gate.set()
        replies = await asyncio.gather(*tasks)
        assert sorted(reply.parameters.seed for reply in replies) == [0, 1, 2, 3, 4]

    async def test_positions_are_told_and_only_fall(self, client: Client, engine: FakeEngine) -> None:
        engine.gate.clear()
        tasks, replies = [], [Reply() for _ in range(5)]
        for seed, reply in enumerate(replies):
            tasks.append(start(client, seed, reply=reply))
            await busy(client, seed + 1)
        load = await client.capabilities()
        assert (load.free_slot_count, load.queue_length, load.queue_capacity) == (0, 3, 3)
        await eventually(lambda: all(reply.all("queued") for reply in replies[2:]))  # before the line moves
        engine.gate.set()
        await asyncio.gather(*tasks)
        positions = [[queued.position for queued in reply.all("queued")] for reply in replies]
        assert positions[0] == positions[1] == []
        assert [line[0] for line in positions[2:]] == [0, 1, 2]
        assert all(line == sorted(set(line), reverse=True) for line in positions)

    async def test_first_come_first_served(self, client: Client, engine: FakeEngine) -> None:
        engine.gate.clear()
        tasks = []
        for seed in range(5):
            tasks.append(start(client, seed, num_inference_steps=3))
            await busy(client, seed + 1)
        engine.gate.set()
        await asyncio.gather(*tasks)
        assert engine.prepared == [0, 1, 2, 3, 4]


class TestSharing:
    async def test_a_request_joins_those_on_their_way(self, client: Client, engine: FakeEngine) -> None:
        engine.gate.clear()
        first = start(client, 1, num_inference_steps=50)
        await eventually(engine.stepping.is_set)
        second = start(client, 2, num_inference_steps=3)
        await busy(client, 2)
        engine.gate.set()
        assert (await second).generation.batch_size == (await first).generation.batch_size == 2
        assert engine.stepped[0] == [1]
        assert engine.stepped.count([1, 2]) == 3
        assert engine.decoded == [2, 1]

    async def test_who_comes_while_another_is_opened_shares_its_first_step(
        self, client: Client, engine: FakeEngine
    ) -> None:
        engine.may_prepare.clear()
        tasks = [start(client, 1)]
        await eventually(engine.preparing.is_set)
        tasks.append(start(client, 2))
        await busy(client, 2)
        engine.may_prepare.set()
        await asyncio.gather(*tasks)
        assert engine.prepared == [1, 2]
        assert engine.stepped[0] == [1, 2]

    @pytest.mark.parametrize("engine", [True], indirect=True)
    async def test_who_comes_during_a_step_is_opened_beside_it(self, client: Client, engine: FakeEngine) -> None:
        engine.gate.clear()
        first = start(client, 1, num_inference_steps=3)
        await eventually(engine.stepping.is_set)
        second = start(client, 2, num_inference_steps=3)
        await eventually(lambda: engine.prepared == [1, 2])
        assert engine.stepped == [[1]]
        engine.gate.set()
        await asyncio.gather(first, second)
        assert engine.stepped[1] == [1, 2]

    @pytest.mark.parametrize("engine", [True], indirect=True)
    async def test_who_follows_an_image_is_opened_beside_its_last_step(
        self, client: Client, engine: FakeEngine
    ) -> None:
        engine.gate.clear()
        tasks = [start(client, 1, num_inference_steps=1)]
        await eventually(lambda: engine.stepped == [[1]])
        tasks += [start(client, seed, num_inference_steps=2) for seed in (2, 3)]
        await eventually(lambda: sorted(engine.prepared) == [1, 2, 3])  # two slots, and three in work
        assert engine.decoded == []
        engine.gate.set()
        await asyncio.gather(*tasks)
        assert sorted(engine.stepped[1]) == [2, 3]
        assert engine.decoded[0] == 1

    async def test_finished_images_do_not_pile_up(self, engine: FakeEngine) -> None:
        left = []
        engine.on_step = lambda samples: left.append(sum(map(len, engine.stepped)) - len(engine.decoded))
        async with serve(engine, queue_capacity=20, decode_chunk=1) as client:
            await asyncio.gather(*(start(client, seed, num_inference_steps=1) for seed in range(20)))
        assert len(engine.decoded) == 20
        assert max(left) <= engine.slots

    async def test_sizes_take_turns(self, client: Client, engine: FakeEngine) -> None:
        engine.gate.clear()
        tasks = [start(client, 1, num_inference_steps=80)]
        await eventually(engine.stepping.is_set)  # the wait at the gate is time that the first has had
        tasks.append(start(client, 2, width=128, num_inference_steps=80))
        await busy(client, 2)
        engine.gate.set()
        await asyncio.gather(*tasks)
        assert all(len(seeds) == 1 for seeds in engine.stepped)
        turns = sum(one != other for one, other in itertools.pairwise(engine.stepped))
        assert turns > 10  # one after the other would be one turn; equal shares of time are dozens


class TestEnding:
    async def test_cancel_ends_the_work_within_one_step_and_never_decodes(
        self, client: Client, engine: FakeEngine
    ) -> None:
        engine.gate.clear()
        gone = start(client, 1, num_inference_steps=80)
        mate = start(client, 2, num_inference_steps=80)
        await busy(client, 2)
        await eventually(engine.stepping.is_set)
        gone.cancel()
        await eventually(lambda: len(client.server.calls.running) == 1)
        engine.gate.set()
        assert (await mate).parameters.seed == 2
        assert all(1 not in seeds for seeds in engine.stepped[1:])
        assert engine.decoded == [2]
        await client.until(lambda now: now.free_slot_count == 2)

    async def test_a_cancel_during_the_last_step_is_in_time(self, client: Client, engine: FakeEngine) -> None:
        engine.gate.clear()
        gone = start(client, 1, num_inference_steps=1)
        await eventually(engine.stepping.is_set)
        gone.cancel()
        await eventually(lambda: not client.server.calls.running)
        engine.gate.set()
        await client.generate(prompt="a", seed=2)
        assert engine.decoded == [2]

    async def test_a_deadline_is_a_cancel(self, client: Client, engine: FakeEngine) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            engine.gate.clear()
            await client.generate(prompt="a", seed=1, num_inference_steps=80, timeout=0.2)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        engine.gate.set()
        await client.until(lambda now: now.free_slot_count == 2)
        assert engine.decoded == []

    async def test_who_leaves_the_line_makes_room_at_once(self, client: Client, engine: FakeEngine) -> None:
        engine.gate.clear()
        tasks = []
        for seed in range(5):  # one after the other: the last is the one that waits
            tasks.append(start(client, seed))
            await busy(client, seed + 1)
        tasks[4].cancel()
        await busy(client, 4)
        late = start(client, 7)
        await busy(client, 5)
        engine.gate.set()
        assert (await late).parameters.seed == 7
        assert 4 not in engine.prepared
        await asyncio.gather(*tasks[:4])


async def test_a_reader_that_never_reads_holds_nobody_up(client: Client, engine: FakeEngine) -> None:
    call = client.stub.Generate(generate_request(prompt="a", seed=1, num_inference_steps=80), timeout=60)
    reply = await client.generate(prompt="a", seed=2, num_inference_steps=80)
    assert reply.parameters.seed == 2
    await client.until(lambda now: now.free_slot_count == 2)
    call.cancel()


async def test_progress_is_at_most_ten_a_second(client: Client, engine: FakeEngine) -> None:
    begin = asyncio.get_running_loop().time()
    reply = await client.generate(prompt="a", seed=2, num_inference_steps=80)
    seconds = asyncio.get_running_loop().time() - begin
    assert len(reply.all("progress")) <= 10 * seconds + 2


async def test_previews_come_when_wanted(client: Client, engine: FakeEngine) -> None:
    reply = await client.generate(prompt="a", seed=2, num_inference_steps=80, preview_interval=1)
    previews = reply.all("preview")
    assert previews
    assert all(preview.content_type == "image/png" and preview.width == 8 for preview in previews)
    assert not (await client.generate(prompt="a", seed=2, num_inference_steps=80)).all("preview")
