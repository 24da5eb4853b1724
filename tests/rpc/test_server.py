"""Servers: health, reflection, graceful shutdown, retries of channels, and settings."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic import TypeAdapter

from rpc import errors
from rpc.channel import open_channel
from rpc.health import check
from rpc.server import running
from rpc.settings import ServerSettings, Target
from tests.rpc.conftest import NAME, Echo, Hop, eventually, hop
from tests.rpc.contract import ECHO


async def _echo(request: bytes, _call: Any) -> bytes:
    return request


class TestHealth:
    async def test_liveness_does_not_depend_on_readiness(self, echo: Hop) -> None:
        assert await check(echo.server.address)
        assert await check(echo.server.address, NAME)
        await echo.server.set_ready(False)
        assert await check(echo.server.address)
        assert not await check(echo.server.address, NAME)

    async def test_a_server_that_does_not_run_is_not_healthy(self) -> None:
        assert not await check("127.0.0.1:1", timeout_seconds=1)

    async def test_unready_backends_get_no_calls(self) -> None:
        async with hop(Echo(unary=_echo), services=[ECHO], retries=False) as back:
            assert await back.unary(b"x") == b"x"
            await back.server.set_ready(False)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                for _ in range(200):
                    await back.unary(b"x")
                    await asyncio.sleep(0.01)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE

    async def test_a_channel_without_health_check_calls_unready_backends(self) -> None:
        async with hop(Echo(unary=_echo), services=[ECHO], health_check=False) as back:
            await back.server.set_ready(False)
            assert await back.unary(b"x") == b"x"

    async def test_watch_reports_changes_of_health(self, echo: Hop) -> None:
        stub: Any = health_pb2_grpc.HealthStub(echo.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=NAME), timeout=10)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await echo.server.set_ready(False)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()


class TestReflection:
    async def _names(self, settings: ServerSettings) -> list[str]:
        async with hop(Echo(unary=_echo), settings) as server:
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(server.channel)
            call = stub.ServerReflectionInfo(timeout=5)
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            response = await call.read()
            await call.done_writing()
            return [service.name for service in response.list_services_response.service]

    async def test_is_served_if_the_setting_is_on(self) -> None:
        assert NAME in await self._names(ServerSettings(listen="127.0.0.1:0", reflection=True))

    async def test_is_not_served_by_default(self) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self._names(ServerSettings(listen="127.0.0.1:0"))
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


class TestDrain:
    async def test_calls_in_progress_end_and_their_handlers_are_awaited(self, echo: Hop) -> None:
        started, finished = asyncio.Event(), asyncio.Event()

        async def slow(request: bytes, _call: Any) -> bytes:
            started.set()
            await asyncio.sleep(0.3)
            finished.set()
            return request

        echo.echo.unary = slow
        call = asyncio.create_task(echo.unary(b"kept"))
        await started.wait()
        await echo.server.drain(0.0, 5.0)
        assert finished.is_set()
        assert await call == b"kept"

    async def test_a_handler_whose_client_has_gone_is_awaited(self, echo: Hop) -> None:
        started, cleaned = asyncio.Event(), asyncio.Event()

        async def stubborn(_request: bytes, _call: Any) -> bytes:
            started.set()
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.3)
                cleaned.set()
            return b""

        echo.echo.unary = stubborn
        call = asyncio.create_task(echo.unary())
        await started.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await echo.server.drain(0.0, 5.0)
        assert cleaned.is_set()

    async def test_sigterm_ends_the_process_with_success(self, tmp_path: Path) -> None:
        program = (
            "import asyncio; from rpc.server import serve, run; from rpc.settings import ServerSettings;"
            "from rpc import logs; logs.configure('test');"
            "run(serve([], ServerSettings(listen='127.0.0.1:0', lame_duck_seconds=0)))"
        )
        process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        while "serving" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "stopped" in process.stderr.read()
        process.stderr.close()


class TestListen:
    async def test_a_port_in_use_is_an_error(self, echo: Hop) -> None:
        with pytest.raises(OSError, match="cannot listen"):
            async with running([Echo().service()], ServerSettings(listen=echo.server.address)):
                pass


class TestRetry:
    async def _attempts(self, method: str, error: errors.RpcError, *, size: int = 10, **channel: Any) -> int:
        """How often a call that fails with `error` reaches the server."""

        async def fail(_request: bytes, _call: Any) -> bytes:
            raise error

        async with hop(Echo(unary=fail), **{"services": [ECHO], **channel}) as server:
            with pytest.raises(grpc.aio.AioRpcError):
                await server.channel.unary_unary(f"/{NAME}/{method}")(b"x" * size)
            return len(server.echo.calls)

    @pytest.mark.parametrize("method", ["Unary", "Create"], ids=["no side effects", "idempotent"])
    async def test_unavailable_is_retried_where_the_contract_allows_it(self, method: str) -> None:
        assert await self._attempts(method, errors.Unavailable("later")) == 5

    async def test_large_requests_are_retried_too(self) -> None:
        assert await self._attempts("Unary", errors.Unavailable("later"), size=2 * 1024 * 1024) == 5

    async def test_other_methods_and_errors_are_not_retried(self) -> None:
        assert await self._attempts("Add", errors.Unavailable("later")) == 1
        assert await self._attempts("Unary", errors.Aborted("lost")) == 1

    @pytest.mark.parametrize("channel", [{"retries": False}, {"services": []}], ids=["turned off", "unknown service"])
    async def test_a_channel_without_retries(self, channel: dict[str, Any]) -> None:
        assert await self._attempts("Unary", errors.Unavailable("later"), **channel) == 1

    async def test_a_server_that_comes_back_is_found(self) -> None:
        async with hop(Echo(unary=_echo)) as first:
            address = first.server.address
            async with open_channel(address, services=[ECHO]) as channel:
                call = channel.unary_unary(f"/{NAME}/Unary")
                assert await call(b"1") == b"1"
                await first.server.server.stop(None)
                async with running([Echo(unary=_echo).service()], ServerSettings(listen=address)):
                    assert await call(b"2") == b"2"


class TestSettings:
    @pytest.mark.parametrize(
        ("variable", "value"), [("TEST_DRAIN_SECONDS", "-1"), ("TEST_MAX_MESSAGE_BYTES", "many"), ("TEST_NEEDED", "")]
    )
    def test_an_invalid_setting_stops_the_process_and_is_named(self, variable: str, value: str) -> None:
        program = (
            "from rpc.settings import ServerSettings, load; from pydantic import Field;"
            "from pydantic_settings import SettingsConfigDict\n"
            "class S(ServerSettings):\n"
            "    model_config = SettingsConfigDict(env_prefix='TEST_')\n"
            "    needed: int = Field(description='x')\n"
            "load(S)"
        )
        result = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "TEST_NEEDED": "1", variable: value},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 2
        assert variable in result.stderr
        assert "Traceback" not in result.stderr


class TestTargets:
    @pytest.mark.parametrize(
        "value", ["127.0.0.1:1", "posts:50053", "dns:///posts.internal:443", "ipv4:1.2.3.4:1,1.2.3.5:2", "[::1]:9"]
    )
    def test_addresses_are_accepted(self, value: str) -> None:
        assert TypeAdapter(Target).validate_python(f" {value} ") == value

    @pytest.mark.parametrize("value", ["", " ", "somewhere", "host:", ":80", "host:port", "a b:1"])
    def test_other_texts_are_refused(self, value: str) -> None:
        with pytest.raises(ValueError, match="host:port"):
            TypeAdapter(Target).validate_python(value)


class TestStreams:
    async def test_one_connection_cannot_take_the_calls_of_all(self) -> None:
        """A client that opens streams and sends nothing, and another client."""

        async def collect(requests: Any, _call: Any) -> bytes:
            return b"".join([piece async for piece in requests])

        begun = asyncio.Event()

        async def silent() -> Any:
            await begun.wait()
            yield b"x"

        settings = ServerSettings(listen="127.0.0.1:0", max_concurrent_rpcs=10)
        async with hop(Echo(unary=_echo, collect=collect), settings) as back:
            await back.unary(
                b"x"
            )  # until the server has said its limit, a client opens more streams, which are refused
            held = [asyncio.create_task(back.collect(silent(), timeout=60)) for _ in range(30)]
            await eventually(lambda: len(back.server.calls.running) == 5)
            async with open_channel(back.server.address) as other:
                call = other.unary_unary(f"/{NAME}/Unary")
                assert [await call(b"y") for _ in range(20)] == [b"y"] * 20
            # Those above the limit wait at the client until others end. One that comes while another is ending may be
            # refused: UNAVAILABLE, which channels repeat for idempotent methods. This one is not in a contract.
            begun.set()
            results = await asyncio.gather(*held, return_exceptions=True)
        refused = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
        assert {result.code() for result in refused} <= {grpc.StatusCode.UNAVAILABLE}
        assert results.count(b"x") == 30 - len(refused) >= 5


class TestProxies:
    async def test_calls_do_not_go_through_http_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        async with hop(Echo(unary=_echo)) as back:
            assert await back.unary(b"x") == b"x"
            assert await check(back.server.address)
