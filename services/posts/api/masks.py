"""Whether a mask is an image that a generator can read. It is checked when a task is created, not when it fails."""

import io

from frontispiece.types.v1 import generation_pb2
from PIL import Image

from rpc.limits import limits

_MAX_PIXELS = limits(generation_pb2.InitialImage, "mask").max_pixels


def problem(mask: bytes) -> str:
    """What is wrong with a mask, with the limit that it breaks; "" for a good one. Its size in bytes is not checked."""
    try:
        with Image.open(io.BytesIO(mask), formats=("PNG",)) as image:
            fits = image.width * image.height <= _MAX_PIXELS  # known before anything is decompressed
            if fits:
                image.verify()  # the checksums, and that the file is complete
        if fits:
            with Image.open(io.BytesIO(mask), formats=("PNG",)) as image:
                image.load()
            return ""
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass
    except MemoryError:
        raise
    except Exception:  # for a broken file Pillow's decoders raise any exception
        return "must be a PNG that can be read"
    return f"must have at most {_MAX_PIXELS} pixels"
