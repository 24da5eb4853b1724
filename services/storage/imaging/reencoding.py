"""An uploaded image becomes a plain one: upright, in sRGB, without metadata except the IPTC digital source type."""

import contextlib
import io
import re
from typing import Any, BinaryIO

from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin

from services.storage.imaging.appearance import thumbhash
from services.storage.imaging.decoding import decode
from services.storage.imaging.formats import JPEG, PNG, TOO_LARGE, ImageFormat, ImageRefused

_QUALITY = 90
_PNG_LEVEL = 3
"""Level 6 takes 1.5 times as long and makes a photograph 3 % smaller."""

# XMP and C2PA manifests name the type by its address in the IPTC vocabulary.
_SOURCE_TYPE = re.compile(rb"http://cv\.iptc\.org/newscodes/digitalsourcetype/[A-Za-z]{1,64}")
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="{}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


def reencode(data: bytes, image_format: ImageFormat, output: BinaryIO, max_bytes: int) -> tuple[int, int, str]:
    """Write the plain image to `output` in the same format.

    Returns width and height in pixels, and the ThumbHash in base64. PNG and lossless WebP stay lossless. Raises
    ImageRefused if the image cannot be decoded, exceeds the limits, or has more than `max_bytes` afterwards.
    """
    image = decode(data, image_format)
    options = _options(image, data, image_format)
    profile = image.info.get("icc_profile")
    _turn_upright(image)
    image = _to_srgb(_plain_mode(image), profile)
    image.info = {}  # Pillow writes comments and profiles that it finds here
    image.save(output, image_format.pillow, **options)
    if output.tell() > max_bytes:
        raise ImageRefused(
            f"the image has {output.tell()} bytes after it was encoded again; at most {max_bytes} are accepted",
            reason=TOO_LARGE,
        )
    return image.width, image.height, thumbhash(image)


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF data: browsers ignore them too
        pass


def _options(image: Image.Image, data: bytes, image_format: ImageFormat) -> dict[str, Any]:
    """The options of the encoder for this image."""
    found = _SOURCE_TYPE.search(data)
    xmp = _XMP.format(found[0].decode()) if found else ""
    if image_format is PNG:
        info = PngImagePlugin.PngInfo()
        if xmp:
            info.add_itxt("XML:com.adobe.xmp", xmp)
        return {"compress_level": _PNG_LEVEL, "pnginfo": info}
    if image_format is JPEG:
        return {
            "quality": _QUALITY,
            "subsampling": JpegImagePlugin.get_sampling(image),  # of the source; -1, the default, if it is unusual
            "xmp": xmp.encode(),
        }
    bitstream = re.search(rb"VP8[ L]", data)
    lossless = bitstream is not None and bitstream[0] == b"VP8L"
    if lossless:  # higher methods need twice the memory
        return {"lossless": True, "exact": True, "quality": 50, "method": 0, "xmp": xmp.encode()}
    return {"quality": _QUALITY, "method": 2, "xmp": xmp.encode()}


def _plain_mode(image: Image.Image) -> Image.Image:
    """The image as L, RGB, RGBA or CMYK with 8 bits a channel."""
    if image.mode.startswith("I"):
        return image.point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in sRGB. A profile that is damaged or does not fit the image is ignored, as browsers do."""
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if not (source.profile.profile_description or "").startswith("sRGB"):
                mode = image.mode if image.mode in ("RGB", "RGBA") else "RGB"
                converted = ImageCms.profileToProfile(
                    image, source, ImageCms.createProfile("sRGB"), outputMode=mode, inPlace=mode == image.mode
                )
                image = converted or image
    return image.convert("RGB") if image.mode == "CMYK" else image
