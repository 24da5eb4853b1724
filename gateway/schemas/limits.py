"""The limits of message fields as OpenAPI keywords, and as JSON for forms."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from rpc.limits import of_field

FieldLimit = bool | int | float | str

UNSIGNED = (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)

_MAXIMA = {FieldDescriptor.CPPTYPE_INT32: 2**31 - 1, FieldDescriptor.CPPTYPE_UINT32: 2**32 - 1}

# Control characters that are refused, in the syntax that regular expressions of ECMA-262 and Python share. In a single
# line the others (tab, line feed, carriage return, next line) become spaces.
_CONTROL = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u0084\u0086-\u009f"
_CONTROL_MULTILINE = r"\u0000-\u0008\u000b-\u001f\u007f-\u009f"
_INVISIBLE = (
    r"\s\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    r"\u00ad\u0300-\u036f\u0483-\u0489\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
)
"""Characters that show nothing by themselves. rpc.validation knows all combining marks, too."""


def _number(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _numeric(field: FieldDescriptor) -> dict[str, Any]:
    limits = of_field(field)
    keywords: dict[str, Any] = {}
    if limits.HasField("min"):
        keywords["exclusiveMinimum" if limits.exclusive_min else "minimum"] = _number(limits.min)
    elif field.cpp_type in UNSIGNED:
        keywords["minimum"] = 0  # by its type
    if limits.HasField("max") and not limits.clamp:
        keywords["exclusiveMaximum" if limits.exclusive_max else "maximum"] = _number(limits.max)
    elif field.cpp_type in _MAXIMA:
        keywords["maximum"] = _MAXIMA[field.cpp_type]
    if limits.multiple_of:
        keywords["multipleOf"] = limits.multiple_of
    return keywords


def _text(field: FieldDescriptor, *, required: bool) -> dict[str, Any]:
    limits = of_field(field)
    keywords: dict[str, Any] = {}
    if required:
        keywords["minLength"] = 1
    if limits.HasField("max_length"):
        keywords["maxLength"] = limits.max_length
    if limits.pattern:
        keywords["pattern"] = f"^({limits.pattern})$" if required else f"^({limits.pattern})?$"
    else:
        keywords["pattern"] = _written(multiline=limits.multiline, required=required)
    if limits.pattern_description == "a UUID":
        keywords["format"] = "uuid"
    return keywords


def _written(*, multiline: bool, required: bool) -> str:
    """The pattern of text that rpc.validation accepts: no control character, and if `required`, a visible one."""
    control = _CONTROL_MULTILINE if multiline else _CONTROL
    return f"^[^{control}]*[^{control}{_INVISIBLE}][^{control}]*$" if required else f"^[^{control}]*$"


def field_of(message: type[Message] | Message, name: str) -> FieldDescriptor:
    """The descriptor of a field. Raises KeyError if it does not exist."""
    return message.DESCRIPTOR.fields_by_name[name]  # type: ignore[return-value]  # two names of one class


def openapi_limits(field: FieldDescriptor, *, required: bool = False) -> dict[str, Any]:
    """The limits of a field as JSON Schema keywords. `required`: it may be absent but not empty."""
    limits = of_field(field)
    text_required = required or limits.required or field.is_repeated
    one = _text(field, required=text_required) if field.type == FieldDescriptor.TYPE_STRING else _numeric(field)
    if not field.is_repeated:
        return one
    keywords: dict[str, Any] = {"maxItems": limits.max_items} if limits.HasField("max_items") else {}
    if limits.unique_by:
        keywords["uniqueItems"] = True
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
