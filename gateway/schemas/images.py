"""JSON of images that a caller provides: the initial image of a task with its mask, and uploads."""

from typing import Any

from frontispiece.generator.v1 import generator_pb2
from frontispiece.types.v1 import generation_pb2
from pydantic import ConfigDict, Field

from gateway.schemas.base import Input, Output
from gateway.schemas.formats import Base64, Url
from rpc.limits import limits

_IMAGE = limits(generator_pb2.GenerateRequest, "initial_image")
_STRENGTH = limits(generation_pb2.InitialImage, "strength")


class InitialImage(Input):
    """An image to start from instead of noise alone, and the part of it that may change."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"key": "generated/1790000000-a1b2c3.png", "strength": 0.5}]}
    )
    messages = (generation_pb2.InitialImage,)

    key: str = Field(
        description="The `key` of a stored image: an image of a task, the `featured_image` of a post, or an upload. It "
        f"has at most {_IMAGE.max_bytes} bytes and {_IMAGE.max_pixels} pixels, and is kept permanently from "
        "then on."
    )
    strength: float | None = Field(
        None,
        description="How much of the image changes: the share of the steps that are done. "
        f"Default: {_STRENGTH.default:g}; {_STRENGTH.max:g} with a mask.",
    )
    mask: Base64 | None = Field(
        None,
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"},
        description="Where the image may change: base64 of a PNG of at most "
        f"{limits(generation_pb2.InitialImage, 'mask').max_pixels} pixels, which is scaled to the image. "
        "A pixel is regenerated where the lightness of the mask is 128 or more of 255. Every other pixel, and "
        "every transparent one, is kept exactly. Default: the whole image may change.",
    )
    mask_feather: int | None = Field(
        None,
        description="Width in pixels of the transition from kept to regenerated pixels, inside the regenerated part. "
        "0: a hard edge. Only with a mask.",
    )


class UsedInitialImage(Output):
    """The initial image of a task. Its mask is not returned."""

    key: str
    url: Url
    strength: float | None
    has_mask: bool
    mask_feather: int | None = Field(description="Width of the transition in pixels. null: the default.")


class UploadedImage(Output):
    """An uploaded image. Tasks and posts refer to it by its `key`."""

    key: str = Field(description="Name of the image in storage.")
    url: Url = Field(description="Absolute URL. It keeps working.")
    width: int = Field(description="Width in pixels.")
    height: int = Field(description="Height in pixels.")
    content_type: str = Field(description="Content type that was found in the bytes.")
    size_bytes: int
    sha256: str = Field(description="SHA-256 of the stored bytes, hexadecimal.")
    thumbhash: str = Field(description="Blurred placeholder (ThumbHash), base64. It may be empty.")


UPLOAD_FORM: dict[str, Any] = {
    "title": "UploadForm",
    "description": "An image in a form. Text fields beside it are ignored.",
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The file. Its part may have any other name."}
    },
    "required": ["file"],
}
"""The schema of a form with an image."""
