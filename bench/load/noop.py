"""`python -m bench.load.noop RECORDING`: a gRPC server that does nothing but answer what the real one answered once.

It parses each request and sends ready responses: what is left is the cost of grpc.aio, protobuf and the wire. A call's
latency or CPU time divided by this server's is the cost of our own code, whatever the machine is doing meanwhile.
"""

import asyncio
import base64
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import uvloop
from google.protobuf import message

from bench.load.contracts import Method, method

Handler = Any  # grpc's own class takes type arguments for type checkers only


def handler(rpc: Method, responses: list[message.Message]) -> Handler:
    """Answers one method with `responses`, or the only one of them."""

    async def unary_unary(request: message.Message, _: Any) -> message.Message:
        return responses[0]

    async def unary_stream(request: message.Message, _: Any) -> AsyncIterator[message.Message]:
        for response in responses:
            yield response

    async def stream_unary(requests: AsyncIterator[message.Message], _: Any) -> message.Message:
        async for _request in requests:
            pass
        return responses[0]

    codec: dict[str, Any] = {
        "request_deserializer": rpc.request.FromString,
        "response_serializer": rpc.response.SerializeToString,
    }
    if rpc.client_streaming:
        return grpc.stream_unary_rpc_method_handler(stream_unary, **codec)
    if rpc.server_streaming:
        return grpc.unary_stream_rpc_method_handler(unary_stream, **codec)
    return grpc.unary_unary_rpc_method_handler(unary_unary, **codec)


class Recording(grpc.GenericRpcHandler):
    """Answers every recorded method."""

    def __init__(self, recorded: dict[str, list[str]]) -> None:
        """`recorded`: the responses by call ("package.Service/Method"), serialized, base64."""
        self._handlers: dict[str, Handler] = {}
        for call, encoded in recorded.items():
            rpc = method(call)
            responses = [rpc.response.FromString(base64.b64decode(text)) for text in encoded]
            self._handlers[rpc.path] = handler(rpc, responses)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler of a method."""
        return self._handlers.get(str(handler_call_details.method))


async def main(recording: Path) -> None:
    """Serve on a free port, printed, until SIGTERM."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Recording(json.loads(recording.read_text())),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
