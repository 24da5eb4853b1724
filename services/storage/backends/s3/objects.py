"""The S3 object of an image, in both directions: headers, metadata and tags."""

import base64
import zlib
from collections.abc import Iterable
from typing import Any

from frontispiece.storage.v1.images_pb2 import ImageBackend, ImageState
from frontispiece.types.v1.image_pb2 import ImageFile

from services.storage.backends.base import CACHE_CONTROL
from services.storage.backends.states import STATE_NAMES, STATES
from services.storage.content import Content
from services.storage.metadata import DESCRIPTION
from services.storage.models import StoredImage


def put_arguments(image: StoredImage, data: Content) -> dict[str, Any]:
    """The arguments of PutObject. A later HEAD returns the whole description. An existing object is not replaced."""
    description = {
        "sha256": image.file.sha256,
        "width": str(image.file.width),
        "height": str(image.file.height),
        "thumbhash": image.thumbhash,
    }
    if image.source_sha256 != image.file.sha256:
        description["source-sha256"] = image.source_sha256
    return {
        "Key": image.key,
        "Body": data,
        "ContentType": image.file.content_type,
        "CacheControl": CACHE_CONTROL,
        "Metadata": {**image.metadata, **description},
        "Tagging": f"state={STATE_NAMES[image.state]}",
        "ChecksumCRC32": crc32(data.pieces()),
        "IfNoneMatch": "*",
    }


def crc32(pieces: Iterable[bytes]) -> str:
    """The checksum that S3 verifies, in base64."""
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def image(key: str, head: dict[str, Any], tags: dict[str, str]) -> StoredImage:
    """The image that the HEAD and the tags of an object describe. Missing metadata become 0 or ""."""
    metadata = {name.lower(): value for name, value in head["Metadata"].items()}
    sha256 = metadata.get("sha256", "")
    return StoredImage(
        key=key,
        backend=ImageBackend.IMAGE_BACKEND_S3,
        file=ImageFile(
            content_type=head.get("ContentType", ""),
            size_bytes=head["ContentLength"],
            sha256=sha256,
            width=_number(metadata.get("width", "")),
            height=_number(metadata.get("height", "")),
        ),
        source_sha256=metadata.get("source-sha256", sha256),
        create_time=head["LastModified"],
        thumbhash=metadata.get("thumbhash", ""),
        state=STATES.get(tags.get("state", ""), ImageState.IMAGE_STATE_DRAFT),
        metadata={name: value for name, value in metadata.items() if name not in DESCRIPTION},
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
