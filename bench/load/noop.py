"""`python -m bench.load.noop RECORDING [FOLDER]`: a gRPC server that only returns recorded responses.

It parses each request and sends prepared responses. What remains is the cost of grpc.aio, protobuf and the network. The
latency or CPU time of a call divided by that of this server is the cost of our own code, on any machine.

With FOLDER it hashes, writes and fsyncs uploads, and does nothing else. That is the lowest possible cost of a call
whose response means that the bytes are on disk.
"""

import asyncio
import base64
import hashlib
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import uvloop
from google.protobuf import message

from bench.load.contracts import Method, method

Handler = Any  # grpc's own class takes type arguments for type checkers only


def keep(chunks: list[bytes], folder: Path) -> None:
    """Make bytes durable under a new name that holds their SHA-256."""
    digest = hashlib.sha256()
    path = folder / uuid.uuid4().hex
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    directory = os.open(folder, os.O_RDONLY)
    try:
        for chunk in chunks:
            digest.update(chunk)
            os.write(descriptor, chunk)
        os.fsync(descriptor)
        path.rename(folder / f"{path.name}-{digest.hexdigest()}")
        os.fsync(directory)
    finally:
        os.close(descriptor)
        os.close(directory)


def handler(rpc: Method, responses: list[message.Message], folder: Path | None) -> Handler:
    """Serves one method: returns `responses`, or the only one of them, and keeps uploads in `folder`."""

    async def unary_unary(request: message.Message, _: Any) -> message.Message:
        return responses[0]

    async def unary_stream(request: message.Message, _: Any) -> AsyncIterator[message.Message]:
        for response in responses:
            yield response

    async def stream_unary(requests: AsyncIterator[Any], _: Any) -> message.Message:
        if folder:
            await asyncio.to_thread(keep, [request.chunk async for request in requests], folder)
        else:
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
    """Serves every recorded method."""

    def __init__(self, recorded: dict[str, list[str]], folder: Path | None) -> None:
        """`recorded`: the responses by call ("package.Service/Method"), serialized, base64."""
        self._handlers: dict[str, Handler] = {}
        for call, encoded in recorded.items():
            rpc = method(call)
            responses = [rpc.response.FromString(base64.b64decode(text)) for text in encoded]
            self._handlers[rpc.path] = handler(rpc, responses, folder)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler of a method."""
        return self._handlers.get(str(handler_call_details.method))


async def main(recording: Path, folder: Path | None = None) -> None:
    """Serve on a free port, which is printed, until SIGTERM."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Recording(json.loads(recording.read_text()), folder),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(main(*map(Path, sys.argv[1:])))
