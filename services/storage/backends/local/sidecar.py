"""The JSON file beside an image on disk. It holds what S3 keeps as headers, metadata and tags."""

import json
from datetime import datetime
from typing import Any

from frontispiece.storage.v1.images_pb2 import ImageBackend
from frontispiece.types.v1.image_pb2 import ImageFile

from rpc.errors import DataLoss
from services.storage.backends.base import CACHE_CONTROL
from services.storage.backends.states import STATE_NAMES, STATES
from services.storage.models import StoredImage

VERSION = 1

_FILE_FIELDS = [field.name for field in ImageFile.DESCRIPTOR.fields]


def encode(image: StoredImage) -> bytes:
    """The sidecar of an image."""
    content = {
        "version": VERSION,
        "key": image.key,
        "cache_control": CACHE_CONTROL,
        **{name: getattr(image.file, name) for name in _FILE_FIELDS},
        "source_sha256": image.source_sha256,
        "thumbhash": image.thumbhash,
        "state": STATE_NAMES[image.state],
        "create_time": image.create_time.isoformat(),
        "metadata": image.metadata,
    }
    return json.dumps(content, indent=1).encode()


def decode(data: bytes, key: str, backend: ImageBackend) -> StoredImage:
    """The image of a sidecar. Raises DataLoss if the sidecar cannot be read."""
    try:
        content: dict[str, Any] = json.loads(data)
        if content["version"] != VERSION or content["key"] != key:
            raise ValueError("another version or key")
        return StoredImage(
            key=key,
            backend=backend,
            file=ImageFile(**{name: content[name] for name in _FILE_FIELDS}),
            source_sha256=content.get("source_sha256", content["sha256"]),
            thumbhash=content["thumbhash"],
            state=STATES[content["state"]],
            create_time=datetime.fromisoformat(content["create_time"]),
            metadata=dict(content["metadata"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"the sidecar file of {key} is damaged", reason="RECORD_DAMAGED") from error
