"""Content codings of text: which one a client asks for, and compression outside of the event loop."""

import asyncio
import gzip
from typing import Literal

import brotli

Coding = Literal["", "br", "gzip"]
"""A content coding; "" is identity."""

MIN_BYTES = 600
"""Smaller bodies are sent as they are: the headers of a coding and the work would cost more than they save."""

_BROTLI_QUALITY = 4
_GZIP_LEVEL = 6


def chosen(accept_encoding: str) -> Coding:
    """The coding for an Accept-Encoding header: br before gzip before identity, each unless its weight is 0."""
    if not accept_encoding:
        return ""
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        name, _, parameter = item.partition(";")
        weights[name.strip()] = _weight(parameter)
    best: Coding = ""
    most = 0.0
    for coding in ("br", "gzip"):
        weight = weights.get(coding, weights.get("*", 0.0))
        if weight > most:
            best, most = coding, weight
    return best if most >= weights.get("identity", 0.0) else ""


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 0.0


async def encoded(body: bytes, coding: Coding) -> bytes:
    """`body` in a coding. It is compressed in a thread, which does not hold the interpreter's lock meanwhile."""
    return await asyncio.to_thread(_compress, body, coding) if coding else body


def _compress(body: bytes, coding: Coding) -> bytes:
    if coding == "br":
        return bytes(brotli.compress(body, mode=brotli.MODE_TEXT, quality=_BROTLI_QUALITY))
    return gzip.compress(body, _GZIP_LEVEL, mtime=0)
