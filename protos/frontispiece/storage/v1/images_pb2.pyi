import datetime

from frontispiece.types.v1 import image_pb2 as _image_pb2
from frontispiece.types.v1 import limits_pb2 as _limits_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageBackend(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_BACKEND_UNSPECIFIED: _ClassVar[ImageBackend]
    IMAGE_BACKEND_LOCAL: _ClassVar[ImageBackend]
    IMAGE_BACKEND_S3: _ClassVar[ImageBackend]
    IMAGE_BACKEND_SPOOL: _ClassVar[ImageBackend]

class ImageState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_STATE_UNSPECIFIED: _ClassVar[ImageState]
    IMAGE_STATE_DRAFT: _ClassVar[ImageState]
    IMAGE_STATE_PUBLISHED: _ClassVar[ImageState]

class ImageOrigin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_ORIGIN_UNSPECIFIED: _ClassVar[ImageOrigin]
    IMAGE_ORIGIN_GENERATOR: _ClassVar[ImageOrigin]
    IMAGE_ORIGIN_UPLOAD: _ClassVar[ImageOrigin]
IMAGE_BACKEND_UNSPECIFIED: ImageBackend
IMAGE_BACKEND_LOCAL: ImageBackend
IMAGE_BACKEND_S3: ImageBackend
IMAGE_BACKEND_SPOOL: ImageBackend
IMAGE_STATE_UNSPECIFIED: ImageState
IMAGE_STATE_DRAFT: ImageState
IMAGE_STATE_PUBLISHED: ImageState
IMAGE_ORIGIN_UNSPECIFIED: ImageOrigin
IMAGE_ORIGIN_GENERATOR: ImageOrigin
IMAGE_ORIGIN_UPLOAD: ImageOrigin

class Image(_message.Message):
    __slots__ = ("image", "backend", "state", "create_time")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    image: _image_pb2.StoredImage
    backend: ImageBackend
    state: ImageState
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, image: _Optional[_Union[_image_pb2.StoredImage, _Mapping]] = ..., backend: _Optional[_Union[ImageBackend, str]] = ..., state: _Optional[_Union[ImageState, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class StoreImageRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: StoreImageHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[StoreImageHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class StoreImageHeader(_message.Message):
    __slots__ = ("request_id", "request_time", "task_id", "size_bytes", "sha256", "metadata", "origin")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIME_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    request_time: _timestamp_pb2.Timestamp
    task_id: str
    size_bytes: int
    sha256: str
    metadata: _containers.ScalarMap[str, str]
    origin: ImageOrigin
    def __init__(self, request_id: _Optional[str] = ..., request_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., task_id: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., origin: _Optional[_Union[ImageOrigin, str]] = ...) -> None: ...

class StoreImageResponse(_message.Message):
    __slots__ = ("image",)
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    image: Image
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ...) -> None: ...

class GetImageRequest(_message.Message):
    __slots__ = ("key", "offset", "limit", "accept_redirect", "header_only")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_REDIRECT_FIELD_NUMBER: _ClassVar[int]
    HEADER_ONLY_FIELD_NUMBER: _ClassVar[int]
    key: str
    offset: int
    limit: int
    accept_redirect: bool
    header_only: bool
    def __init__(self, key: _Optional[str] = ..., offset: _Optional[int] = ..., limit: _Optional[int] = ..., accept_redirect: _Optional[bool] = ..., header_only: _Optional[bool] = ...) -> None: ...

class GetImageResponse(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: GetImageHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[GetImageHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class GetImageHeader(_message.Message):
    __slots__ = ("image", "redirect_url", "redirect_ttl", "range_start", "range_size")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_URL_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_TTL_FIELD_NUMBER: _ClassVar[int]
    RANGE_START_FIELD_NUMBER: _ClassVar[int]
    RANGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    image: Image
    redirect_url: str
    redirect_ttl: _duration_pb2.Duration
    range_start: int
    range_size: int
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., redirect_url: _Optional[str] = ..., redirect_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., range_start: _Optional[int] = ..., range_size: _Optional[int] = ...) -> None: ...

class SetImageStateRequest(_message.Message):
    __slots__ = ("key", "state")
    KEY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    key: str
    state: ImageState
    def __init__(self, key: _Optional[str] = ..., state: _Optional[_Union[ImageState, str]] = ...) -> None: ...

class SetImageStateResponse(_message.Message):
    __slots__ = ("image",)
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    image: Image
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("backend", "healthy", "reason", "bucket", "base_url", "spool_count", "spool_bytes")
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    BASE_URL_FIELD_NUMBER: _ClassVar[int]
    SPOOL_COUNT_FIELD_NUMBER: _ClassVar[int]
    SPOOL_BYTES_FIELD_NUMBER: _ClassVar[int]
    backend: ImageBackend
    healthy: bool
    reason: str
    bucket: str
    base_url: str
    spool_count: int
    spool_bytes: int
    def __init__(self, backend: _Optional[_Union[ImageBackend, str]] = ..., healthy: _Optional[bool] = ..., reason: _Optional[str] = ..., bucket: _Optional[str] = ..., base_url: _Optional[str] = ..., spool_count: _Optional[int] = ..., spool_bytes: _Optional[int] = ...) -> None: ...
