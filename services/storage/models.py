"""Values of the storage service that no contract message covers."""

from dataclasses import dataclass, field
from datetime import datetime

from frontispiece.storage.v1.images_pb2 import ImageBackend, ImageState
from frontispiece.types.v1.image_pb2 import ImageFile


@dataclass(frozen=True)
class StoredImage:
    """One image in a backend.

    `file` describes the stored bytes. `source_sha256` is the SHA-256 of the bytes that the caller sent, which differ if
    the image was encoded again. `thumbhash` is base64. `metadata` is the further object metadata: `task-id`,
    `generated-date` and what the caller added.
    """

    key: str
    backend: ImageBackend
    file: ImageFile
    source_sha256: str
    create_time: datetime
    thumbhash: str = ""
    state: ImageState = ImageState.IMAGE_STATE_DRAFT
    metadata: dict[str, str] = field(default_factory=dict)

    def is_same_upload(self, other: "StoredImage") -> bool:
        """Whether both images came from the same bytes.

        The stored bytes may differ: another release of Pillow may encode an upload differently.
        """
        if self.file.sha256 == other.file.sha256 and self.file.size_bytes != other.file.size_bytes:
            return False  # one of them is cut short
        return self.source_sha256 == other.source_sha256


@dataclass(frozen=True)
class ByteRange:
    """`size` bytes from `start` on, within the image."""

    start: int
    size: int


@dataclass(frozen=True)
class Redirect:
    """Another address of an image. It works for `ttl_seconds`; None means permanently."""

    url: str
    ttl_seconds: float | None = None


@dataclass(frozen=True)
class ImageHandle:
    """An image that was found: the range to read, or the address to fetch it from."""

    image: StoredImage
    range: ByteRange
    redirect: Redirect | None = None


@dataclass(frozen=True)
class HealthStatus:
    """Whether writes to a backend worked at the last check, and why not."""

    healthy: bool
    reason: str = ""


@dataclass(frozen=True)
class SpoolUsage:
    """The number of images in the spool and their size in bytes."""

    count: int = 0
    size_bytes: int = 0
