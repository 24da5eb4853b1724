"""The process serves while its model is loading."""

import asyncio
import socket
import threading

import grpc
import pytest
from frontispiece.generator.v1 import generator_pb2 as pb
from frontispiece.generator.v1 import generator_pb2_grpc
from frontispiece.types.v1.generation_pb2 import GenerationParameters
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rpc import errors
from services.generator import __main__ as program
from services.generator.engine import CheckpointError
from services.generator.servicer import SERVICE_NAME
from services.generator.settings import GeneratorSettings
from tests.generator.fake import FakeEngine

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class SlowEngine(FakeEngine):
    """Warms up when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = threading.Event()

    def warm_up(self) -> int:
        assert self.loaded.wait(60)
        return super().warm_up()


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


async def health(channel: grpc.aio.Channel, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    return (await stub.Check(request, timeout=10, wait_for_ready=True)).status


async def test_while_the_model_loads_health_says_so_and_calls_are_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SlowEngine()
    monkeypatch.setattr(program, "make_engine", lambda settings: engine)
    settings = GeneratorSettings(listen=f"127.0.0.1:{free_port()}", lame_duck_seconds=0, drain_seconds=1)
    running = asyncio.create_task(program.main(settings))
    async with grpc.aio.insecure_channel(settings.listen) as channel:
        stub = generator_pb2_grpc.GeneratorServiceStub(channel)
        assert await health(channel, "") == SERVING
        assert await health(channel, SERVICE_NAME) == NOT_SERVING
        parameters = GenerationParameters(prompt="a fox")
        calls = [
            stub.GetCapabilities(pb.GetCapabilitiesRequest(), timeout=10),
            stub.ValidateParameters(pb.ValidateParametersRequest(parameters=parameters), timeout=10),
            stub.Generate(pb.GenerateRequest(parameters=parameters), timeout=10).read(),
        ]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            error = errors.from_call(caught.value)
            assert (error.reason, error.message) == ("MODEL_LOADING", "the model is loading")
            assert error.retry_after_seconds is not None
        engine.loaded.set()
        async with asyncio.timeout(30):
            while await health(channel, SERVICE_NAME) != SERVING:
                await asyncio.sleep(0.05)
        assert (await stub.GetCapabilities(pb.GetCapabilitiesRequest(), timeout=10)).models[0].id == "tiny"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_checkpoint_that_cannot_be_loaded_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: GeneratorSettings) -> FakeEngine:
        raise CheckpointError("no such folder")

    monkeypatch.setattr(program, "make_engine", fail)
    settings = GeneratorSettings(listen="127.0.0.1:0", lame_duck_seconds=0, drain_seconds=1)
    async with asyncio.timeout(30):
        with pytest.raises(CheckpointError, match="no such folder"):
            await program.main(settings)
