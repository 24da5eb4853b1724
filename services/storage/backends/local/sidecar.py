"""What is kept beside an image on a disk: everything S3 would keep as headers, metadata and tags, as JSON."""

import json
from datetime import datetime
from typing import Any

from rpc.errors import DataLoss
from services.storage.models import BackendKind, ImageState, StoredImage

VERSION = 1


def encode(image: StoredImage, cache_control: str) -> bytes:
    """The record of an image."""
    record = {
        "version": VERSION,
        "key": image.key,
        "content_type": image.content_type,
        "cache_control": cache_control,
        "width": image.width,
        "height": image.height,
        "size_bytes": image.size_bytes,
        "sha256": image.sha256,
        "thumbhash": image.thumbhash,
        "state": image.state.value,
        "create_time": image.create_time.isoformat(),
        "metadata": image.metadata,
    }
    return json.dumps(record, indent=1).encode()


def decode(content: bytes, key: str, kind: BackendKind) -> StoredImage:
    """The image of a record. Raises DataLoss for one that cannot be read."""
    try:
        record: dict[str, Any] = json.loads(content)
        if record["version"] != VERSION or record["key"] != key:
            raise ValueError("another version or key")
        return StoredImage(
            key=key,
            backend=kind,
            content_type=record["content_type"],
            width=record["width"],
            height=record["height"],
            size_bytes=record["size_bytes"],
            sha256=record["sha256"],
            thumbhash=record["thumbhash"],
            state=ImageState(record["state"]),
            create_time=datetime.fromisoformat(record["create_time"]),
            metadata=dict(record["metadata"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"the record of {key} is damaged", reason="RECORD_DAMAGED") from error
