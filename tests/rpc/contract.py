"""The messages and the service of contract.proto, compiled when they are imported."""

import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from frontispiece.types.v1 import limits_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import ServiceDescriptor
from grpc_tools import protoc

HERE = Path(__file__).parent


def _compile() -> None:
    with tempfile.NamedTemporaryFile() as compiled:
        folders = [HERE, HERE.parents[1] / "protos", files("grpc_tools") / "_proto"]
        arguments = [*(f"-I{folder}" for folder in folders), f"-o{compiled.name}", "contract.proto"]
        assert protoc.main(["protoc", *arguments]) == 0
        descriptors = descriptor_pb2.FileDescriptorSet.FromString(Path(compiled.name).read_bytes())
    assert [*descriptors.file[0].dependency] == [limits_pb2.DESCRIPTOR.name]  # which its import has added to the pool
    for file in descriptors.file:
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


_compile()
Item, Request, Required = _message("test.Item"), _message("test.Request"), _message("test.Required")
ECHO: ServiceDescriptor = descriptor_pool.Default().FindServiceByName("test.Echo")
