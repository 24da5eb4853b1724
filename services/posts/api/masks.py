"""Whether a mask is an image that a generator can read. It is checked when a task is created, not when it fails."""

import io

from PIL import Image

MAX_MASK_PIXELS = 4 * 1024 * 1024


def problem(mask: bytes) -> str:
    """What is wrong with a mask, with the limit that it breaks; "" for a good one. Its size in bytes is not checked."""
    try:
        with Image.open(io.BytesIO(mask), formats=("PNG",)) as image:
            fits = image.width * image.height <= MAX_MASK_PIXELS  # known before anything is decompressed
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
    return f"must have at most {MAX_MASK_PIXELS} pixels"
