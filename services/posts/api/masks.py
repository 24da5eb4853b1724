"""Whether a mask is a picture that a generator can read: asked when the task is made, not when it fails."""

import io

from PIL import Image

MAX_MASK_BYTES = 256 * 1024
MAX_MASK_PIXELS = 4 * 1024 * 1024


def problem(mask: bytes) -> str:
    """What is wrong with a mask, with the limit that it breaks; "" for a good one."""
    if len(mask) > MAX_MASK_BYTES:
        return f"must be a PNG of at most {MAX_MASK_BYTES} bytes, has {len(mask)}"
    try:
        with Image.open(io.BytesIO(mask), formats=("PNG",)) as image:
            fits = image.width * image.height <= MAX_MASK_PIXELS  # known before anything is unpacked
            if fits:
                image.verify()  # the checksums, and whether it is all there
        if fits:
            with Image.open(io.BytesIO(mask), formats=("PNG",)) as image:
                image.load()
            return ""
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass
    except MemoryError:
        raise
    except Exception:  # a broken file makes Pillow's decoders raise whatever they meet
        return "must be a PNG that can be read"
    return f"must have at most {MAX_MASK_PIXELS} pixels"
