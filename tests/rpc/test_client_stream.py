"""Calls end with the status of the call, whatever moment the server dies or refuses at; only a cancelled caller is
cancelled."""

import asyncio
import contextlib
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from rpc import errors
from rpc.channel import ContextChannel, open_channel
from tests.rpc.conftest import Hop

Caller = Callable[[ContextChannel], Awaitable[None]]


async def parts(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


async def _iterate(channel: ContextChannel) -> None:
    count, size = random.choice([1, 3, 20]), random.choice([10, 100_000])
    await channel.stream_unary("/test.Killed/Collect")(parts(count, size), timeout=20)


async def _write(channel: ContextChannel) -> None:
    call = channel.stream_unary("/test.Killed/Collect")(timeout=20)
    for _ in range(random.choice([1, 3, 20])):
        await call.write(b"x" * 1000)
    await call.done_writing()
    await call


async def _unary(channel: ContextChannel) -> None:
    await channel.unary_unary("/test.Killed/Unary")(b"x" * random.choice([10, 100_000]), timeout=20)


async def _read(channel: ContextChannel) -> None:
    async for _ in channel.unary_stream("/test.Killed/Stream")(b"x" * 1000, timeout=20):
        pass


async def _until_it_fails(caller: Caller, channel: ContextChannel) -> grpc.StatusCode:
    while True:
        try:
            await caller(channel)
        except grpc.aio.AioRpcError as error:
            return error.code()


class TestKilledServer:
    @pytest.mark.parametrize("round_number", range(4))
    async def test_every_call_is_unavailable(self, round_number: int) -> None:
        """With grpc.aio alone about one call in ten of those that stream requests ends otherwise."""
        with contextlib.ExitStack() as stack:
            command = [sys.executable, "-m", "tests.rpc.killed"]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            assert process.stdout is not None
            async with open_channel(f"127.0.0.1:{int(process.stdout.readline())}") as channel:
                callers = [_iterate] * 15 + [_write] * 15 + [_unary] * 5 + [_read] * 5
                calls = [asyncio.create_task(_until_it_fails(caller, channel)) for caller in callers]
                await asyncio.sleep(0.1 + round_number * 0.05)
                process.kill()
                ended = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
        assert ended == [grpc.StatusCode.UNAVAILABLE] * len(calls)


class TestStatus:
    @pytest.mark.parametrize("by_hand", [False, True], ids=["iterator", "write"])
    async def test_an_early_refusal_is_never_lost(self, echo: Hop, by_hand: bool) -> None:
        """With grpc.aio alone about one refusal in a hundred becomes INTERNAL."""

        async def refuse(requests: Any, _call: Any) -> bytes:
            async for _ in requests:
                raise errors.InvalidArgument.field("header", "is wrong")
            return b""

        async def call(count: int, size: int) -> None:
            if not by_hand:
                await echo.collect(parts(count, size))
                return
            stream = echo.channel.stream_unary("/test.Echo/Collect")()
            async for part in parts(count, size):
                await stream.write(part)
            await stream.done_writing()
            await stream

        echo.echo.collect = refuse
        for number in range(300):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call([1, 2, 30][number % 3], [10, 60_000, 250_000][number % 2])
            assert errors.from_call(raised.value).violations == (errors.FieldViolation("header", "is wrong"),)

    async def test_an_early_response_ends_the_requests(self, echo: Hop) -> None:
        async def first(requests: Any, _call: Any) -> bytes:
            return await anext(aiter(requests))

        closed = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x"
                    await asyncio.sleep(0.01)
            finally:
                closed.set()

        echo.echo.collect = first
        assert await echo.collect(endless()) == b"x"
        await asyncio.wait_for(closed.wait(), 5)


class TestCancellation:
    @pytest.fixture
    def started(self, echo: Hop) -> asyncio.Event:
        """Set when the server has a request of the call, which it never answers."""
        event = asyncio.Event()

        async def never(requests: Any, _call: Any) -> bytes:
            async for _ in requests:
                event.set()
            await asyncio.sleep(60)
            return b""

        echo.echo.collect = never
        return event

    async def test_a_cancelled_caller_is_cancelled(self, echo: Hop, started: asyncio.Event) -> None:
        caller = asyncio.create_task(echo.collect(parts(1, 1)))
        await started.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert caller.cancelled()

    async def test_a_timeout_of_the_caller_is_a_timeout(self, echo: Hop, started: asyncio.Event) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await echo.collect(parts(1, 1))
        assert started.is_set()

    async def test_a_cancelled_call_is_cancelled(self, echo: Hop, started: asyncio.Event) -> None:
        call = echo.channel.stream_unary("/test.Echo/Collect")(parts(1, 1))
        await started.wait()
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()

    async def test_an_error_of_the_request_iterator_is_raised(self, echo: Hop, started: asyncio.Event) -> None:
        async def failing() -> AsyncIterator[bytes]:
            yield b"1"
            await started.wait()
            raise ValueError("cannot be read")

        with pytest.raises(ValueError, match="cannot be read"):
            await echo.collect(failing())
