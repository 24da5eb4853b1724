"""No request blocks the event loop of the gateway for more than 50 ms of CPU time."""

import json

import pytest

from tests.gateway.full import LONGEST, MEBIBYTE, READS
from tests.gateway.loop_watch import LIMIT_SECONDS, fetch, watching
from tests.gateway.scripted import EDITOR, Scripted

JSON = {**EDITOR, "content-type": "application/json"}


@pytest.mark.parametrize("path", READS)
async def test_no_read_blocks_the_loop(full: Scripted, path: str) -> None:
    first = await fetch(full, path, **EDITOR)  # templates and schemas are made once
    assert first.status == 200, first.body[:300]
    with watching() as watch:
        again = await fetch(full, path, accept_encoding="br, gzip", **EDITOR)
    assert again.status == 200
    assert watch.longest < LIMIT_SECONDS, watch


HOSTILE = {
    "brackets": b"[" * LONGEST,
    "braces": b'{"a":' * (MEBIBYTE // 5),
    "a mebibyte of text": json.dumps({"prompt": "a" * (MEBIBYTE - 20)}).encode(),
    "unknown fields": json.dumps({f"f{n}": n for n in range(60_000)}).encode(),
    "numbers": json.dumps({"prompt": "a", "seeds": [1] * 300_000}).encode(),
    "escapes": b'{"prompt": "' + b"\\u00e9" * 170_000 + b'"}',
}


@pytest.mark.parametrize(
    "body",
    [pytest.param(body, id=name) for name, body in HOSTILE.items()],
)
@pytest.mark.parametrize("path", ["/api/tasks", "/api/posts", "/api/media/generate-image", "/api/authors"])
async def test_no_body_blocks_the_loop(full: Scripted, path: str, body: bytes) -> None:
    assert len(body) <= MEBIBYTE
    assert (await fetch(full, path, "POST", b"{}", **JSON)).status in {422, 501}
    with watching() as watch:
        answer = await fetch(full, path, "POST", body, **JSON)
    assert answer.status in {400, 422}
    assert watch.longest < LIMIT_SECONDS, watch
