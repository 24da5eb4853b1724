"""What storage speaks about: images, uploads, ranges and its own condition; no protobuf, no boto."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class BackendKind(Enum):
    """Where the bytes of an image are."""

    LOCAL = "local"
    S3 = "s3"
    SPOOL = "spool"


class ImageState(Enum):
    """Whether an image is shown to the public; the values are those of the S3 object tag `state`."""

    DRAFT = "draft"
    PUBLISHED = "published"


@dataclass(frozen=True)
class UploadHeader:
    """What a caller says of an image before it sends the bytes; `request_time` None: nobody knows it at a retry."""

    request_id: str
    request_time: datetime | None
    size_bytes: int
    task_id: str = ""
    sha256: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageInfo:
    """What the bytes of an image say themselves: content type, width and height in pixels."""

    content_type: str
    width: int
    height: int


@dataclass(frozen=True)
class StoredImage:
    """One image in a backend. `sha256` is lower-case hex, `thumbhash` base64, `create_time` is in UTC.

    `metadata` is what the object carries besides the fields here: `task-id`, `generated-date` and the caller's own.
    """

    key: str
    backend: BackendKind
    content_type: str
    width: int
    height: int
    size_bytes: int
    sha256: str
    create_time: datetime
    thumbhash: str = ""
    state: ImageState = ImageState.DRAFT
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ByteRange:
    """The bytes from `start` on, `size` of them; both within the image."""

    start: int
    size: int


@dataclass(frozen=True)
class Redirect:
    """A better place to fetch an image from; `ttl_seconds` None: it works for ever."""

    url: str
    ttl_seconds: float | None = None


@dataclass(frozen=True)
class Condition:
    """Whether writes to a backend work, as last seen; `reason` says why not."""

    healthy: bool
    reason: str = ""


@dataclass(frozen=True)
class SpoolUse:
    """How many images wait for S3, and their size in bytes."""

    count: int = 0
    size_bytes: int = 0
