from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor
LIMITS_FIELD_NUMBER: _ClassVar[int]
limits: _descriptor.FieldDescriptor

class Limits(_message.Message):
    __slots__ = ("required", "max_length", "multiline", "pattern", "pattern_description", "min", "max", "exclusive_min", "exclusive_max", "multiple_of", "clamp", "default", "max_bytes", "max_items", "unique_by", "key_pattern", "unit", "max_pixels")
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MULTILINE_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    PATTERN_DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_MIN_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_MAX_FIELD_NUMBER: _ClassVar[int]
    MULTIPLE_OF_FIELD_NUMBER: _ClassVar[int]
    CLAMP_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    UNIQUE_BY_FIELD_NUMBER: _ClassVar[int]
    KEY_PATTERN_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXELS_FIELD_NUMBER: _ClassVar[int]
    required: bool
    max_length: int
    multiline: bool
    pattern: str
    pattern_description: str
    min: float
    max: float
    exclusive_min: bool
    exclusive_max: bool
    multiple_of: int
    clamp: bool
    default: float
    max_bytes: int
    max_items: int
    unique_by: str
    key_pattern: str
    unit: str
    max_pixels: int
    def __init__(self, required: _Optional[bool] = ..., max_length: _Optional[int] = ..., multiline: _Optional[bool] = ..., pattern: _Optional[str] = ..., pattern_description: _Optional[str] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., exclusive_min: _Optional[bool] = ..., exclusive_max: _Optional[bool] = ..., multiple_of: _Optional[int] = ..., clamp: _Optional[bool] = ..., default: _Optional[float] = ..., max_bytes: _Optional[int] = ..., max_items: _Optional[int] = ..., unique_by: _Optional[str] = ..., key_pattern: _Optional[str] = ..., unit: _Optional[str] = ..., max_pixels: _Optional[int] = ...) -> None: ...
