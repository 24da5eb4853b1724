"""Interceptors: the context of a call, errors without secrets, validation, and the log line."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from rpc import context, errors
from rpc.channel import ContextChannel, open_channel
from rpc.health import check
from rpc.server import Service, running
from rpc.settings import ServerSettings
from rpc.validation import MAX_VIOLATIONS
from tests.rpc.conftest import NAME, Echo, Hop, eventually, hop
from tests.rpc.contract import Item, Request


class TestDeadline:
    async def test_a_deadline_is_passed_on_to_the_second_hop(self) -> None:
        seen: list[float] = []

        async def leaf(_request: bytes, call: Any) -> bytes:
            seen.append(call.time_remaining())
            return b""

        async with hop(Echo(unary=leaf)) as back:

            async def middle(_request: bytes, _call: Any) -> bytes:
                return await back.unary()

            async with hop(Echo(unary=middle, name="test.Front")) as front:
                await front.unary(timeout=3.0)
                await front.unary()
        assert 1.0 < seen[0] <= 3.2
        assert 8.0 < seen[1] <= 10.5  # gRPC rounds up; the channel's default

    async def test_expiry_cancels_the_handler(self, echo: Hop) -> None:
        cancelled = asyncio.Event()

        async def slow(_request: bytes, _call: Any) -> bytes:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return b""

        echo.echo.unary = slow
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await echo.unary(timeout=0.2)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(cancelled.wait(), 5)
        await eventually(lambda: not echo.server.calls.running)

    async def test_no_deadline_means_none(self) -> None:
        assert context.remaining_seconds() is None


class TestContext:
    async def test_request_id_and_principal_reach_the_second_hop(self) -> None:
        seen: list[tuple[str, str]] = []

        async def leaf(_request: bytes, _call: Any) -> bytes:
            seen.append((context.request_id.get(), context.principal.get()))
            return b""

        async with hop(Echo(unary=leaf)) as back:

            async def middle(_request: bytes, _call: Any) -> bytes:
                return await back.unary()

            async with hop(Echo(unary=middle, name="test.Front")) as front:
                context.request_id.set("request-1")
                context.principal.set("ada")
                await front.unary()
        assert seen == [("request-1", "ada")]

    @pytest.mark.parametrize("bad", ["", "x" * 129, "with space", None])
    def test_a_bad_request_id_is_replaced(self, bad: str | None) -> None:
        assert context.accept_id(bad) != bad
        assert context.accept_principal(bad) == context.DEFAULT_PRINCIPAL


class TestErrors:
    async def test_code_reason_field_and_delay_reach_the_caller(self, echo: Hop) -> None:
        async def refuse(request: bytes, _call: Any) -> bytes:
            if request == b"field":
                raise errors.InvalidArgument.field("prompt", "at most 2000 characters, got 2001")
            raise errors.ResourceExhausted("queue full", reason="QUEUE_FULL", retry_after_seconds=1.5)

        echo.echo.unary = refuse
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await echo.unary(b"field")
        error = errors.from_call(raised.value)
        assert isinstance(error, errors.InvalidArgument)
        assert error.violations == (errors.FieldViolation("prompt", "at most 2000 characters, got 2001"),)
        assert error.message == "prompt: at most 2000 characters, got 2001"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await echo.unary(b"delay")
        error = errors.from_call(raised.value)
        assert isinstance(error, errors.ResourceExhausted)
        assert (error.reason, error.retry_after_seconds) == ("QUEUE_FULL", 1.5)

    async def test_the_text_of_unexpected_errors_is_not_sent(self, echo: Hop, caplog: pytest.LogCaptureFixture) -> None:
        async def fail(_request: bytes, _call: Any) -> bytes:
            raise ValueError("postgres://user:secret@host")

        async def fail_later(_request: bytes, _call: Any) -> AsyncIterator[bytes]:
            yield b"1"
            raise ValueError("postgres://user:secret@host")

        echo.echo.unary, echo.echo.stream = fail, fail_later
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await echo.unary()
        self._check_hidden(raised.value, caplog)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in echo.stream():
                pass
        self._check_hidden(raised.value, caplog)

    @staticmethod
    def _check_hidden(call: grpc.aio.AioRpcError, caplog: pytest.LogCaptureFixture) -> None:
        error = errors.from_call(call)
        assert isinstance(error, errors.Internal)
        assert "secret" not in str(call.details()) + str(call.trailing_metadata())
        reference = error.metadata["reference"]
        assert reference in error.message
        assert any(getattr(record, "reference", "") == reference for record in caplog.records)

    async def test_errors_of_a_second_hop_are_passed_on(self) -> None:
        async def leaf(_request: bytes, _call: Any) -> bytes:
            raise errors.NotFound("no such image")

        async with hop(Echo(unary=leaf)) as back:

            async def middle(_request: bytes, _call: Any) -> bytes:
                return await back.unary()

            async with hop(Echo(unary=middle, name="test.Front")) as front:
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await front.unary()
        assert isinstance(errors.from_call(raised.value), errors.NotFound)

    def test_every_code_has_a_class(self) -> None:
        classes = {cls.code for cls in errors.RpcError.__subclasses__()}
        assert classes == set(grpc.StatusCode) - {grpc.StatusCode.OK}

    async def test_an_unknown_method_is_unimplemented(self, echo: Hop) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await echo.channel.unary_unary("/test.Echo/Nothing")(b"")
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


class TestStreams:
    async def test_a_cancelled_call_closes_the_generator_of_its_handler(self, echo: Hop) -> None:
        closed = asyncio.Event()

        async def forever(_request: bytes, _call: Any) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x"
                    await asyncio.sleep(0.01)
            finally:
                closed.set()

        echo.echo.stream = forever
        call = echo.stream(timeout=60)
        await call.read()
        call.cancel()
        await asyncio.wait_for(closed.wait(), 5)
        await eventually(lambda: not echo.server.calls.running)

    async def test_a_stream_of_requests_is_collected(self, echo: Hop) -> None:
        async def collect(requests: Any, _call: Any) -> bytes:
            return b"".join([part async for part in requests])

        async def parts() -> AsyncIterator[bytes]:
            for part in (b"a", b"b", b"c"):
                yield part

        echo.echo.collect = collect
        assert await echo.collect(parts()) == b"abc"


class TestValidation:
    """Messages of contract.proto to a server: a handler gets only requests that keep their limits."""

    @pytest.fixture
    async def seen(self) -> list[Any]:
        """The requests that handlers have read."""
        return []

    @pytest.fixture
    async def channel(self, seen: list[Any]) -> AsyncIterator[ContextChannel]:
        async def unary(request: Any, _call: Any) -> Any:
            seen.append(request)
            return request

        async def stream(request: Any, _call: Any) -> AsyncIterator[Any]:
            seen.append(request)
            yield request

        async def talk(requests: Any, _call: Any) -> AsyncIterator[Any]:
            async for request in requests:
                seen.append(request)
                yield request

        async def collect(requests: Any, call: Any) -> Any:
            return [request async for request in talk(requests, call)][-1]

        codec = {"request_deserializer": Request.FromString, "response_serializer": Request.SerializeToString}
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(unary, **codec),
            "Stream": grpc.unary_stream_rpc_method_handler(stream, **codec),
            "Collect": grpc.stream_unary_rpc_method_handler(collect, **codec),
            "Talk": grpc.stream_stream_rpc_method_handler(talk, **codec),
        }
        service = Service(NAME, lambda server: server.add_registered_method_handlers(NAME, handlers))
        async with running([service], ServerSettings(listen="127.0.0.1:0")) as server:
            async with open_channel(server.address) as opened:
                yield opened

    async def _call(self, channel: ContextChannel, kind: str, *requests: Any) -> list[Any]:
        """The responses to a call of a kind, such as "unary_stream"."""
        name = {"unary_unary": "Unary", "unary_stream": "Stream", "stream_unary": "Collect", "stream_stream": "Talk"}[
            kind
        ]
        multicallable = getattr(channel, kind)(f"/{NAME}/{name}", Request.SerializeToString, Request.FromString)

        async def stream() -> AsyncIterator[Any]:
            for request in requests:
                yield request

        call = multicallable(requests[0] if kind.startswith("unary") else stream())
        return [await call] if kind.endswith("unary") else [response async for response in call]

    KINDS = pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])

    @KINDS
    async def test_a_request_beyond_its_limits_does_not_reach_the_handler(
        self, channel: ContextChannel, seen: list[Any], kind: str
    ) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self._call(channel, kind, Request(line="x" * 6, width=63))
        error = errors.from_call(raised.value)
        assert isinstance(error, errors.InvalidArgument)
        assert error.violations == (
            errors.FieldViolation("line", "must have at most 5 characters, has 6"),
            errors.FieldViolation("width", "must be a multiple of 8, from 64 to 4096 pixels; is 63"),
        )
        assert seen == []

    @KINDS
    async def test_the_handler_reads_normalised_text(self, channel: ContextChannel, seen: list[Any], kind: str) -> None:
        await self._call(channel, kind, Request(line=" a\n"))
        assert [request.line for request in seen] == ["a"]

    @pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
    async def test_each_message_of_a_stream_is_checked(
        self, channel: ContextChannel, seen: list[Any], kind: str
    ) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self._call(channel, kind, Request(line="a"), Request(line="b"), Request(width=1), Request(line="d"))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [request.line for request in seen] == ["a", "b"]

    async def test_an_error_with_the_most_violations_reaches_the_caller(self, channel: ContextChannel) -> None:
        """It is larger than what gRPC accepts in headers by default."""
        wrong = Item(children=[Item(name="x" * 99, weight=99) for _ in range(50)])
        for _ in range(12):
            wrong = Item(name="x", children=[wrong])
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self._call(channel, "unary_unary", Request(item=wrong))
        assert len(errors.from_call(raised.value).violations) == MAX_VIOLATIONS


class TestGenericHandler:
    async def test_its_service_is_intercepted_as_any_other(self, caplog: pytest.LogCaptureFixture) -> None:
        async def unary(request: bytes, _call: Any) -> bytes:
            if request:
                raise errors.NotFound("the post does not exist")
            return context.request_id.get().encode()

        handlers = {"Unary": grpc.unary_unary_rpc_method_handler(unary)}
        generic = grpc.method_handlers_generic_handler(NAME, handlers)
        service = Service(NAME, lambda server: server.add_generic_rpc_handlers((generic,)))
        async with running([service], ServerSettings(listen="127.0.0.1:0")) as server:
            assert await check(server.address, NAME)
            async with open_channel(server.address) as channel:
                call = channel.unary_unary(f"/{NAME}/Unary")
                with caplog.at_level(logging.INFO, "rpc.call"):
                    assert await call(b"", metadata=[("x-request-id", "request-1")]) == b"request-1"
                    with pytest.raises(grpc.aio.AioRpcError) as raised:
                        await call(b"x")
        assert isinstance(errors.from_call(raised.value), errors.NotFound)
        lines = [vars(record)["code"] for record in caplog.records if record.name == "rpc.call"]
        assert lines == ["OK", "NOT_FOUND"]


class TestLog:
    @pytest.mark.usefixtures("echo")
    async def test_a_response_that_cannot_be_sent_is_not_logged_as_an_error(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Core decides by a race whether grpc.aio logs this, so the record is made here."""
        grpcs = logging.getLogger("grpc._cython.cygrpc")
        for error in (cygrpc.ExecuteBatchError("Failed"), ValueError("real")):
            try:
                raise error
            except Exception:
                grpcs.exception("raised in core by servicer method")
        assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["real"]

    async def test_each_call_logs_one_line_with_its_code(self, echo: Hop, caplog: pytest.LogCaptureFixture) -> None:
        async def refuse(request: bytes, _call: Any) -> bytes:
            if request:
                raise errors.NotFound("no such post")
            return b""

        echo.echo.unary = refuse
        with caplog.at_level(logging.INFO, "rpc.call"):
            await echo.unary()
            with pytest.raises(grpc.aio.AioRpcError):
                await echo.unary(b"x")
        lines = [record for record in caplog.records if record.name == "rpc.call"]
        assert [(line.message, vars(line)["code"]) for line in lines] == [
            ("/test.Echo/Unary", "OK"),
            ("/test.Echo/Unary", "NOT_FOUND"),
        ]
        assert vars(lines[1])["detail"] == "no such post"
