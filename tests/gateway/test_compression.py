"""Content codings of responses."""

import gzip

import brotli
import pytest
from frontispiece.posts.v1 import posts_pb2

from tests.gateway.loop_watch import fetch
from tests.gateway.scripted import EDITOR, Scripted
from tests.gateway.streams import PATH as EVENTS

TEXTS = [
    "/hub",
    "/docs",
    "/static/editor.js",
    "/openapi.json",
    "/metrics",
    "/api/posts",
    "/api/tasks",
    "/api/capabilities",
]


def decoded(body: bytes, coding: str) -> bytes:
    return brotli.decompress(body) if coding == "br" else gzip.decompress(body)


@pytest.mark.parametrize("path", TEXTS)
@pytest.mark.parametrize("coding", ["br", "gzip"])
async def test_text_is_compressed_when_asked(full: Scripted, path: str, coding: str) -> None:
    plain = await fetch(full, path, **EDITOR)
    coded = await fetch(full, path, accept_encoding=coding, **EDITOR)
    assert coded.status == 200
    assert coded.headers["content-encoding"] == coding
    assert int(coded.headers["content-length"]) == len(coded.body) < len(plain.body)
    if path != "/metrics":  # it counts the request before
        assert decoded(coded.body, coding) == plain.body
    for answer in (plain, coded):
        assert "accept-encoding" in answer.headers["vary"].lower()
    assert "content-encoding" not in plain.headers


@pytest.mark.parametrize(
    "accepted", ["", "identity", "br;q=0", "gzip;q=0, br;q=0", "zstd", "*;q=0"], ids=lambda value: value or "nothing"
)
async def test_text_is_sent_as_it_is_to_others(full: Scripted, accepted: str) -> None:
    answer = await fetch(full, "/hub", accept_encoding=accepted)
    assert "content-encoding" not in answer.headers
    assert b"<html" in answer.body


@pytest.mark.parametrize("path", [EVENTS, "/media/generated/1-x.png", "/healthz", "/api/tags?page_size=1"])
async def test_event_streams_images_and_small_bodies_are_never_compressed(full: Scripted, path: str) -> None:
    full.scripts.on("ListTags", lambda _: posts_pb2.ListTagsResponse())
    answer = await fetch(full, path, accept_encoding="br, gzip", **EDITOR)
    assert answer.status == 200
    assert "content-encoding" not in answer.headers


async def test_a_range_is_of_the_bytes_themselves(full: Scripted) -> None:
    answer = await fetch(full, "/static/editor.js", accept_encoding="br", range="bytes=0-999")
    assert answer.status == 206
    assert "content-encoding" not in answer.headers
    assert len(answer.body) == 1000


async def test_a_compressed_body_has_a_weak_etag_that_is_current(full: Scripted) -> None:
    plain = await fetch(full, "/static/editor.js")
    coded = await fetch(full, "/static/editor.js", accept_encoding="br")
    assert coded.headers["etag"] == "W/" + plain.headers["etag"]
    for etag in (plain.headers["etag"], coded.headers["etag"]):
        again = await fetch(full, "/static/editor.js", accept_encoding="br", if_none_match=etag)
        assert (again.status, again.body) == (304, b"")


async def test_the_answer_to_a_write_is_sent_as_it_is(full: Scripted) -> None:
    fields = {f"field{n}": 1 for n in range(32)}
    response = await full.client.post("/api/tasks", json=fields, headers={"accept-encoding": "gzip"})
    assert response.status_code == 422
    assert "content-encoding" not in response.headers
