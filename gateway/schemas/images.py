"""JSON of pictures that come in: one to begin from, its mask, and one that is uploaded."""

import base64
import binascii
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from gateway.schemas.text import Input, Key, Output

MAX_MASK_BYTES = 256 * 1024
MAX_MASK_FEATHER = 64

_PNG = b"\x89PNG\r\n\x1a\n"


def decoded(mask: str) -> bytes:
    """The bytes of a mask in base64. Raises binascii.Error for what is no base64."""
    return base64.b64decode(mask.encode("ascii", "replace"), validate=True)


def _mask(value: str) -> str:
    try:
        mask = decoded(value)
    except binascii.Error:
        raise PydanticCustomError("mask", "must be base64 (RFC 4648, with padding, no data: prefix)") from None
    if len(mask) > MAX_MASK_BYTES:
        raise PydanticCustomError(
            "mask", "must be a PNG of at most {most} bytes, has {size}", {"most": MAX_MASK_BYTES, "size": len(mask)}
        )
    if not mask.startswith(_PNG):
        raise PydanticCustomError("mask", "must be the base64 of a PNG")
    return value


Strength = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Mask = Annotated[
    str,
    AfterValidator(_mask),
    Field(json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"}),
]


class InitialImage(Input):
    """A picture to begin from instead of noise, and which part of it may change."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"key": "generated/1790000000-….png", "strength": 0.5}]})

    key: Key = Field(
        description="`key` of a stored image: one of a task's, a post's `featured_image`, or an uploaded one; at most "
        "16 MiB and 32 megapixels. It is kept for good then."
    )
    strength: Strength | None = Field(None, description="How much of it is painted anew; unset: 0.6, or 1 with a mask.")
    mask: Mask | None = Field(
        None,
        description="Where to paint: base64 of a PNG of at most 262,144 bytes and 4,194,304 pixels, in the shape of "
        "the image. Scaled to it, it is painted where its lightness is 128 or more of 255; what is darker or "
        "transparent is kept as it is. Unset: all of it may change.",
    )
    mask_feather: Annotated[int, Field(ge=0, le=MAX_MASK_FEATHER)] | None = Field(
        None,
        description="How soft the border of the painted part is: over so many pixels of the image, all inside the "
        "part, the picture goes over into what is painted; 0: a hard border. Unset: 8. Only with a mask.",
    )

    @field_validator("mask_feather")
    @classmethod
    def _only_with_a_mask(cls, feather: int | None, info: ValidationInfo) -> int | None:
        if feather is not None and "mask" in info.data and not info.data["mask"]:
            raise PydanticCustomError("feather", "must not be given without a mask")
        return feather


class UsedInitialImage(Output):
    """The picture that a task begins from. Its mask is not sent back."""

    key: str
    url: str
    strength: float | None
    has_mask: bool
    mask_feather: int | None = Field(description="How soft the border is, in pixels; null without a mask.")


class UploadedImage(Output):
    """A picture that was uploaded; its `key` is what tasks and posts take."""

    key: str = Field(description="Name of the image in storage.")
    url: str = Field(description="Absolute URL; it never breaks.")
    width: int
    height: int
    content_type: str = Field(description="What the bytes are, whatever the request said.")
    size_bytes: int
    sha256: str
    thumbhash: str = Field(description="Blurred placeholder, base64; may be empty.")
