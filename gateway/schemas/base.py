"""The base classes of all shapes. Fields correspond to those of messages by name, so no field has conversion code.

The limits of an input field are those of the message field with its name (option `types.v1.limits`). They are checked
here with the words of the services, and shown in OpenAPI.
"""

import base64
import itertools
import types
from typing import Any, ClassVar, Self, Union, get_args, get_origin

from frontispiece.types.v1.limits_pb2 import Limits
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from gateway.schemas.enums import enum_name, enum_number
from gateway.schemas.limits import UNSIGNED, FieldLimit, field_of, form_limits, openapi_limits
from rpc import errors, validation
from rpc.limits import describe_range, of_field
from rpc.validation import MAX_VIOLATIONS


class Shape(BaseModel):
    """A JSON object that corresponds to one or more messages."""

    @classmethod
    def from_messages(cls, *messages: Message, **given: Any) -> Self:
        """The shape of messages. Each field has the value in `given`, else that of the first message with its name."""
        values = dict(given)
        for name, field in cls.model_fields.items():
            source = next((one for one in messages if name in one.DESCRIPTOR.fields_by_name), None)
            if name in given or source is None:
                continue
            nullable, shape = annotated(field.annotation)
            is_set = source.HasField(name) if field_of(source, name).has_presence else True
            if not is_set and not field.is_required():
                continue  # the default of the shape
            value = _value(source, name, shape) if is_set or not nullable else None
            values[name] = None if nullable and value == "" else value
        return cls(**values)


class Input(Shape):
    """What a caller sends: exact types and no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid")

    messages: ClassVar[tuple[type[Message], ...]] = ()
    """The gRPC messages that the fields go to."""

    never_empty: ClassVar[frozenset[str]] = frozenset()
    """Text fields that may be absent but not empty, beside those that the contract requires."""

    @classmethod
    def __pydantic_init_subclass__(cls, **keywords: Any) -> None:
        """Add the limits of the messages to the OpenAPI schema of the fields."""
        super().__pydantic_init_subclass__(**keywords)
        for name, field in cls.model_fields.items():
            if message := cls._message_with(name):
                given = field.json_schema_extra
                own = given if isinstance(given, dict) else {}
                field.json_schema_extra = {
                    **openapi_limits(field_of(message, name), required=name in cls.never_empty),
                    **own,
                }
        cls.model_rebuild(force=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema without defaults: generated clients would send them, or require every field that has one."""
        found = handler(schema)
        for field in handler.resolve_ref_schema(found).get("properties", {}).values():
            field.pop("default", None)
        return found

    @classmethod
    def _message_with(cls, name: str) -> type[Message] | None:
        return next((one for one in cls.messages if name in one.DESCRIPTOR.fields_by_name), None)

    @classmethod
    def limits(cls) -> dict[str, dict[str, FieldLimit]]:
        """The limits of each field that has some."""
        found = {}
        for name in cls.model_fields:
            if message := cls._message_with(name):
                found[name] = form_limits(field_of(message, name))
        return {name: limits for name, limits in found.items() if limits}

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, value: Any) -> Any:
        """Stop at MAX_VIOLATIONS unknown fields: pydantic would make an error of each of 60,000."""
        if not isinstance(value, dict) or len(value) <= MAX_VIOLATIONS:
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = list(itertools.islice((name for name in value if name not in known), MAX_VIOLATIONS))
        if len(unknown) == MAX_VIOLATIONS:
            raise ValidationError.from_exception_data(
                cls.__name__, [{"type": "extra_forbidden", "loc": (name,), "input": None} for name in unknown]
            )
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _integral(cls, value: Any, info: ValidationInfo) -> Any:
        """4.0 is the integer 4 in JSON Schema. From 2**53 a float does not tell an integer from the next one."""
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            annotation = cls.model_fields[info.field_name or ""].annotation
            return int(value) if int in (annotation, *get_args(annotation)) else value
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _check(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        message = cls._message_with(name)
        if message is None or value is None or field_of(message, name).enum_type is not None:
            return value
        return checked(message, name, value)

    def fill(self, message: Message) -> None:
        """Set every field of `message` that has the name of a field of this input and a value other than None."""
        for name in self.__class__.model_fields:
            value = getattr(self, name)
            if value is not None and name in message.DESCRIPTOR.fields_by_name:
                _set(message, name, value)


class Output(Shape):
    """What the gateway returns. A field whose value is null is present."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


def checked(message: type[Message], name: str, value: Any) -> Any:
    """The normalised value, if the limits of the field `name` of `message` allow it. Raises ValidationError."""
    probe = message()
    field = field_of(message, name)
    try:
        _set(probe, name, value)
        validation.check(probe)
    except (ValueError, OverflowError):  # not a value of the type of the field
        _refuse(name, value, [((), f"must be {_range(field)}")])
    except errors.InvalidArgument as error:
        # The probe lacks the other fields, which may be required.
        found = [(_steps(one.field, name), one.description) for one in error.violations]
        if wrong := [(steps, text) for steps, text in found if steps is not None]:
            _refuse(name, value, wrong)
    if field.message_type is not None or field.type == FieldDescriptor.TYPE_BYTES:
        return value
    return list(getattr(probe, name)) if field.is_repeated else getattr(probe, name)


_WIRE = {
    FieldDescriptor.CPPTYPE_STRING: "text without lone surrogates",
    FieldDescriptor.CPPTYPE_INT32: f"from {-(2**31)} to {2**31 - 1}",
    FieldDescriptor.CPPTYPE_UINT32: f"from 0 to {2**32 - 1}",
    FieldDescriptor.CPPTYPE_INT64: f"from {-(2**63)} to {2**63 - 1}",
    FieldDescriptor.CPPTYPE_UINT64: f"from 0 to {2**64 - 1}",
}
"""The values that a field of each type can hold, in words."""


def _range(field: FieldDescriptor) -> str:
    limits = Limits()
    limits.CopyFrom(of_field(field))
    if limits.HasField("max") and not limits.HasField("min") and field.cpp_type in UNSIGNED:
        limits.min = 0  # by its type
    return describe_range(limits) or _WIRE[field.cpp_type]


def _steps(path: str, name: str) -> tuple[int | str, ...] | None:
    """`(3,)` for the path `tags[3]` below `tags`; None for a path outside of `name`."""
    if path.partition(".")[0].partition("[")[0] != name:
        return None
    parts = path.removeprefix(name).replace("[", ".").replace("]", "").split(".")
    return tuple(int(part) if part.isdigit() else part for part in parts if part)


def _refuse(title: str, value: Any, wrong: list[tuple[tuple[int | str, ...], str]]) -> None:
    details: list[InitErrorDetails] = [
        {"type": PydanticCustomError("limit", "{problem}", {"problem": text}), "loc": steps, "input": value}
        for steps, text in wrong
    ]
    raise ValidationError.from_exception_data(title, details)


def _set(message: Message, name: str, value: Any) -> None:
    field = field_of(message, name)
    if isinstance(value, Input):
        value.fill(getattr(message, name))
    elif isinstance(value, list) and field.message_type is not None:
        for one in value:
            one.fill(getattr(message, name).add())
    elif isinstance(value, list):
        getattr(message, name).extend(value)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        setattr(message, name, base64.b64decode(value, validate=True))
    elif field.enum_type is not None:
        setattr(message, name, enum_number(field.enum_type, value))
    else:
        setattr(message, name, value)


def annotated(annotation: Any) -> tuple[bool, Any]:
    """Whether an annotation allows None, and the class in it: that of the items for a list."""
    nullable = False
    if get_origin(annotation) in (Union, types.UnionType):
        nullable = type(None) in get_args(annotation)
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    if get_origin(annotation) is list:
        annotation = get_args(annotation)[0]
    return nullable, annotation


def _value(source: Message, name: str, shape: Any) -> Any:
    """The value of a field as JSON."""
    field = field_of(source, name)
    value = getattr(source, name)
    if field.is_repeated:
        return [_single(field, one, shape) for one in value]
    return _single(field, value, shape)


def _single(field: FieldDescriptor, value: Any, shape: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if isinstance(value, Duration):
        return value.ToMilliseconds() / 1000
    if field.message_type is not None:
        return shape.from_messages(value)
    if field.enum_type is not None:
        return enum_name(field.enum_type, value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode("ascii")
    return value
