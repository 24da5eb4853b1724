"""The methods under load, by name: their message types, from the committed stubs."""

import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

from frontispiece.generator.v1 import generator_pb2
from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from frontispiece.storage.v1 import images_pb2
from google.protobuf import descriptor_pool, json_format, message, message_factory
from grpc_health.v1 import health_pb2

FILES = (posts_pb2, tasks_pb2, images_pb2, generator_pb2, health_pb2)
"""Imported for what they register: the methods below are looked up in the default pool."""


@dataclass(frozen=True)
class Method:
    """One RPC."""

    path: str
    request: type[message.Message]
    response: type[message.Message]
    client_streaming: bool
    server_streaming: bool


def method(call: str) -> Method:
    """The method of "package.Service/Method". Raises KeyError when there is none."""
    service, _, name = call.rpartition("/")
    found: Any = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return Method(
        f"/{service}/{name}",
        message_factory.GetMessageClass(found.input_type),
        message_factory.GetMessageClass(found.output_type),
        found.client_streaming,
        found.server_streaming,
    )


def requests(call: str, data: Any, new_uuid: str = "") -> list[message.Message]:
    """The messages that ghz makes of a config's `data` for one call; `new_uuid` in place of a fresh one."""
    text = re.sub(r"\{\{\s*newUUID\s*\}\}", lambda _: new_uuid or str(uuid.uuid4()), json.dumps(data))
    values = json.loads(text)
    kind = method(call).request
    return [json_format.ParseDict(value, kind()) for value in (values if isinstance(values, list) else [values])]
