from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageFile(_message.Message):
    __slots__ = ("content_type", "size_bytes", "sha256", "width", "height")
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    size_bytes: int
    sha256: str
    width: int
    height: int
    def __init__(self, content_type: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class StoredImage(_message.Message):
    __slots__ = ("key", "url", "file", "thumbhash", "in_bucket")
    KEY_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    THUMBHASH_FIELD_NUMBER: _ClassVar[int]
    IN_BUCKET_FIELD_NUMBER: _ClassVar[int]
    key: str
    url: str
    file: ImageFile
    thumbhash: str
    in_bucket: bool
    def __init__(self, key: _Optional[str] = ..., url: _Optional[str] = ..., file: _Optional[_Union[ImageFile, _Mapping]] = ..., thumbhash: _Optional[str] = ..., in_bucket: _Optional[bool] = ...) -> None: ...
