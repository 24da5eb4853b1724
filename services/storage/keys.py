"""Object keys of images."""

import uuid

from frontispiece.storage.v1.images_pb2 import StoreImageHeader

IMAGE_PREFIX = "generated/"

_NAMESPACE = uuid.UUID("4f1c0c1e-6a53-5d0e-9a6c-0a3f6b8f2f11")


def image_key(header: StoreImageHeader, sha256: str, extension: str) -> str:
    """The key of an image. It depends only on the request and on the bytes that the caller sent.

    With a request_time: "generated/{seconds}-{uuid}.{extension}". Without one:
    "generated/{uuid of the request}/{uuid}.{extension}", so that the folder shows whether the request had other bytes
    before. The bytes are part of the key there too: a key never identifies two images, even when no comparison is
    possible.
    """
    name = uuid.uuid5(_NAMESPACE, f"{header.request_id}:{sha256}")
    if header.HasField("request_time"):
        return f"{IMAGE_PREFIX}{header.request_time.seconds}-{name}.{extension}"
    return f"{IMAGE_PREFIX}{uuid.uuid5(_NAMESPACE, header.request_id)}/{name}.{extension}"


def folder_of(key: str) -> str:
    """The folder of a key, with the slash at its end."""
    return key[: key.rindex("/") + 1]
