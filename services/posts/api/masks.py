"""Whether a mask is an image that a generator can read. It is checked when a task is created, not when it fails."""

import asyncio
import io
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from frontispiece.types.v1 import generation_pb2
from PIL import Image

from rpc.limits import limits

_MAX_PIXELS = limits(generation_pb2.InitialImage, "mask").max_pixels


T = TypeVar("T")

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# The others may hold compressed text of any size, and change no pixel.
_ESSENTIAL = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_threads = ThreadPoolExecutor(1, thread_name_prefix="masks")


async def off_the_loop(work: Callable[[], T]) -> T:
    """The result of work that decodes masks, done on a thread, one after another."""
    return await asyncio.get_running_loop().run_in_executor(_threads, work)


def problem(mask: bytes) -> str:
    """What is wrong with a mask, with the limit that it breaks; "" for a good one. Its size in bytes is not checked."""
    try:
        mask = essential(mask)
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


def essential(png: bytes) -> bytes:
    """The chunks of a PNG that its pixels depend on. Raises ValueError if a chunk is incomplete or has no end."""
    if not png.startswith(_SIGNATURE):
        raise ValueError("no PNG")
    kept, at = [_SIGNATURE], len(_SIGNATURE)
    while at + 12 <= len(png):
        (length,), kind = struct.unpack_from(">I", png, at), png[at + 4 : at + 8]
        chunk = png[at : at + 12 + length]
        if len(chunk) < 12 + length:
            break
        if kind in _ESSENTIAL:
            kept.append(chunk)
        if kind == b"IEND":
            return b"".join(kept)
        at += len(chunk)
    raise ValueError("the PNG has no end")
