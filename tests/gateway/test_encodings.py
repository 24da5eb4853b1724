"""Which content coding a client gets."""

import gzip

import brotli
import pytest

from gateway import encodings, etags


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", ""),
        ("br", "br"),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "br"),
        ("GZIP", "gzip"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("br;q=0, gzip;q=0", ""),
        ("*", "br"),
        ("*;q=0", ""),
        ("identity", ""),
        ("identity;q=1, gzip;q=0.5", ""),
        ("gzip;q=high", ""),
        ("deflate", ""),
        (";;;=,,,", ""),
        ("gzip ; q=0.3 ,", "gzip"),
    ],
)
def test_the_coding_that_a_client_prefers(accept: str, coding: str) -> None:
    assert encodings.chosen(accept) == coding


async def test_a_compressed_body_is_the_body() -> None:
    body = "Straße und Meer. ".encode() * 500
    assert brotli.decompress(await encodings.encoded(body, "br")) == body
    assert gzip.decompress(await encodings.encoded(body, "gzip")) == body
    assert await encodings.encoded(body, "") is body


def test_the_etag_of_a_compressed_body_is_weak() -> None:
    assert etags.weak('"a"') == 'W/"a"'
    assert etags.weak('W/"a"') == 'W/"a"'
