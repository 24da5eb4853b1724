"""Calls to a generator."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from frontispiece.generator.v1 import generator_pb2, generator_pb2_grpc
from frontispiece.types.v1 import generation_pb2

from rpc import errors
from rpc.channel import open_channel

CALL_TIMEOUT_SECONDS = 5.0


class GeneratorClient:
    """One generator. Every method raises the RpcError with which the call ended."""

    def __init__(self, target: str) -> None:
        """Connect to `target` at the first call."""
        self.target = target
        # No retries: another attempt is the decision of the queue.
        self._channel = open_channel(target)
        self._stub: Any = generator_pb2_grpc.GeneratorServiceStub(self._channel)

    async def close(self) -> None:
        """Close the connection. Calls in progress are cancelled."""
        await self._channel.close()

    async def capabilities(self) -> generator_pb2.GetCapabilitiesResponse:
        """The models of the generator, and how many requests it executes at once."""
        request = generator_pb2.GetCapabilitiesRequest()
        try:
            response: generator_pb2.GetCapabilitiesResponse = await self._stub.GetCapabilities(
                request, timeout=CALL_TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error
        return response

    async def validate(self, parameters: generation_pb2.GenerationParameters, timeout_seconds: float) -> None:
        """Raise InvalidArgument or FailedPrecondition (stock photos) if the generator refuses the parameters."""
        request = generator_pb2.ValidateParametersRequest(parameters=parameters)
        try:
            await self._stub.ValidateParameters(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error

    async def generate(
        self, request: generator_pb2.GenerateRequest, timeout_seconds: float
    ) -> AsyncIterator[generator_pb2.GenerateResponse]:
        """Generate one image. Leaving the loop cancels the call."""
        call = self._stub.Generate(request, timeout=timeout_seconds)
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from error
        finally:
            call.cancel()


def find_model(capabilities: generator_pb2.GetCapabilitiesResponse, name: str) -> generator_pb2.Model | None:
    """The model with that id, "" for the default model. None if the generator does not list it."""
    return next((model for model in capabilities.models if name in ("", model.id)), None)
