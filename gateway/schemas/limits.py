"""The limits of message fields as OpenAPI keywords, and as JSON for forms."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from rpc.limits import of_field

FieldLimit = bool | int | float | str


def _number(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _numeric(field: FieldDescriptor) -> dict[str, Any]:
    limits = of_field(field)
    keywords: dict[str, Any] = {}
    if limits.HasField("min"):
        keywords["exclusiveMinimum" if limits.exclusive_min else "minimum"] = _number(limits.min)
    if limits.HasField("max") and not limits.clamp:
        keywords["exclusiveMaximum" if limits.exclusive_max else "maximum"] = _number(limits.max)
    if limits.multiple_of:
        keywords["multipleOf"] = limits.multiple_of
    return keywords


def _text(field: FieldDescriptor) -> dict[str, Any]:
    limits = of_field(field)
    keywords: dict[str, Any] = {}
    if limits.required:
        keywords["minLength"] = 1
    if limits.HasField("max_length"):
        keywords["maxLength"] = limits.max_length
    if limits.pattern:
        keywords["pattern"] = f"^({limits.pattern})$" if limits.required else f"^({limits.pattern})?$"
    return keywords


def field_of(message: type[Message] | Message, name: str) -> FieldDescriptor:
    """The descriptor of a field. Raises KeyError if it does not exist."""
    return message.DESCRIPTOR.fields_by_name[name]  # type: ignore[return-value]  # two names of one class


def openapi_limits(field: FieldDescriptor) -> dict[str, Any]:
    """The limits of a field as JSON Schema keywords."""
    limits = of_field(field)
    one = _text(field) if field.type == FieldDescriptor.TYPE_STRING else _numeric(field)
    if not field.is_repeated:
        return one
    keywords: dict[str, Any] = {"maxItems": limits.max_items} if limits.HasField("max_items") else {}
    if one:
        keywords["items"] = {"type": "string", **one}
    return keywords


_NOT_FOR_FORMS = frozenset({"clamp", "key_pattern", "unique_by"})


def form_limits(field: FieldDescriptor) -> dict[str, FieldLimit]:
    """The limits of a field that are set, by the names of types.v1.Limits."""
    limits = of_field(field)
    return {
        one.name: _number(value) if isinstance(value, float) else value
        for one, value in limits.ListFields()
        if one.name not in _NOT_FOR_FORMS
    }
