"""How an image looks as an S3 object, and back: headers, metadata, tags."""

import base64
import zlib
from typing import Any

from services.storage.backends.base import CACHE_CONTROL
from services.storage.models import BackendKind, ImageState, StoredImage

_OURS = ("sha256", "width", "height", "thumbhash")


def put_arguments(image: StoredImage, data: bytes) -> dict[str, Any]:
    """What PutObject needs to know of an image, so that a HEAD later tells all of it; it overwrites nothing."""
    ours = {
        "sha256": image.sha256,
        "width": str(image.width),
        "height": str(image.height),
        "thumbhash": image.thumbhash,
    }
    return {
        "Key": image.key,
        "Body": data,
        "ContentType": image.content_type,
        "CacheControl": CACHE_CONTROL,
        "Metadata": {**image.metadata, **ours},
        "Tagging": f"state={image.state.value}",
        "ChecksumCRC32": crc32(data),
        "IfNoneMatch": "*",
    }


def crc32(data: bytes) -> str:
    """The checksum that S3 verifies."""
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def image(key: str, head: dict[str, Any], tags: dict[str, str]) -> StoredImage:
    """The image that the HEAD and the tags of an object tell of; zeros stand for what somebody else did not write."""
    metadata = {name.lower(): value for name, value in head["Metadata"].items()}
    published = tags.get("state") == ImageState.PUBLISHED.value
    return StoredImage(
        key=key,
        backend=BackendKind.S3,
        content_type=head.get("ContentType", ""),
        width=_number(metadata.get("width", "")),
        height=_number(metadata.get("height", "")),
        size_bytes=head["ContentLength"],
        sha256=metadata.get("sha256", ""),
        create_time=head["LastModified"],
        thumbhash=metadata.get("thumbhash", ""),
        state=ImageState.PUBLISHED if published else ImageState.DRAFT,
        metadata={name: value for name, value in metadata.items() if name not in _OURS},
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
