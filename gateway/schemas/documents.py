"""Messages as JSON documents of a shape, by a plan that is made once for each shape.

`Shape.from_messages` looks at every field of every message; a list of twenty posts took two milliseconds of it.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.schemas.base import Output, annotated
from gateway.schemas.enums import enum_name
from gateway.schemas.limits import field_of

Document = dict[str, Any]
Convert = Callable[[Any], Any]

_NONE: Mapping[str, Any] = MappingProxyType({})


class Plan:
    """Makes the documents of one shape from messages of one type. Null is an empty string or a time that is not set."""

    def __init__(
        self,
        shape: type[Output],
        message: type[Message],
        paths: Mapping[str, str] = _NONE,
        plans: "Mapping[str, Plan]" = _NONE,
    ) -> None:
        """`paths`: where the fields are that the message does not have itself, such as `{"width": "file.width"}`.

        `plans`: those of fields that hold messages and have paths as well. Raises KeyError for a field of the shape
        that the message does not have.
        """
        self._names = tuple(shape.model_fields)
        self._converts: list[tuple[str, Convert]] = []
        found = []
        for name in self._names:
            path = paths.get(name, name)
            found.append(path)
            nullable, inner = annotated(shape.model_fields[name].annotation)
            convert = plans.get(name) or _conversion(_field(message, path), nullable, inner)
            if convert is not None:
                self._converts.append((name, convert))
        self._get = attrgetter(*found)

    def __call__(self, message: Any) -> Document:
        """The document of a message."""
        document = dict(zip(self._names, self._get(message), strict=True))
        for name, convert in self._converts:
            document[name] = convert(document[name])
        return document


def _field(message: type[Message], path: str) -> FieldDescriptor:
    folder, dot, rest = path.partition(".")
    field = field_of(message, folder)
    if not dot:
        return field
    assert field.message_type is not None
    return _field(GetMessageClass(field.message_type), rest)


def _conversion(field: FieldDescriptor, nullable: bool, shape: Any) -> Convert | None:
    single = _single(field, nullable, shape)
    if not field.is_repeated:
        return single
    return list if single is None else (lambda values: [single(value) for value in values])


def _single(field: FieldDescriptor, nullable: bool, shape: Any) -> Convert | None:
    kind = field.message_type
    if kind is not None and kind.full_name == Timestamp.DESCRIPTOR.full_name:
        return _time_or_null if nullable else time
    if kind is not None and kind.full_name == Duration.DESCRIPTOR.full_name:
        return _seconds
    if kind is not None:
        return Plan(shape, GetMessageClass(kind))
    if field.enum_type is not None:
        return {number: enum_name(field.enum_type, number) for number in field.enum_type.values_by_number}.__getitem__
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode("ascii")
    return (lambda value: value or None) if nullable else None


def time(value: Any) -> str:
    """A Timestamp as in its JSON form: RFC 3339 in UTC, with 0, 3, 6 or 9 digits after the point."""
    seconds, nanos = value.seconds, value.nanos
    text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    if not nanos:
        return f"{text}Z"
    if nanos % 1_000:
        return f"{text}.{nanos:09d}Z"
    if nanos % 1_000_000:
        return f"{text}.{nanos // 1_000:06d}Z"
    return f"{text}.{nanos // 1_000_000:03d}Z"


def _time_or_null(value: Any) -> str | None:
    return time(value) if value.seconds or value.nanos else None


def _seconds(value: Duration) -> float:
    return value.ToMilliseconds() / 1000
