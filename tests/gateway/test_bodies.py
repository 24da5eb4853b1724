"""Bodies that are not JSON, of another type, or too large."""

from typing import Any

import pytest

from tests.gateway.conftest import assert_problem, wrong_fields
from tests.gateway.scripted import Scripted

JSON = {"content-type": "application/json"}


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (b"{", 400, "MALFORMED_JSON"),
            (b"{'prompt': 'a'}", 400, "MALFORMED_JSON"),
            (b'{"prompt": "a"} x', 400, "MALFORMED_JSON"),
            (b"\xff\xfe", 400, "MALFORMED_JSON"),
            (b'{"prompt": "\xff"}', 400, "MALFORMED_JSON"),
            (b"[" * 100_000, 400, "MALFORMED_JSON"),
            (b'{"prompt": "a", "width": ' + b"9" * 5000 + b"}", 400, "MALFORMED_JSON"),
            (b"[]", 422, "INVALID_ARGUMENT"),
            (b'"prompt"', 422, "INVALID_ARGUMENT"),
            (b"null", 422, "INVALID_ARGUMENT"),
            (b"", 422, "INVALID_ARGUMENT"),
            (rb'{"prompt": "\ud800"}', 422, "INVALID_ARGUMENT"),
            (rb'{"prompt": "a", "\ud800": 1}', 422, "INVALID_ARGUMENT"),
            (b'{"prompt": "a", "guidance_scale": NaN}', 422, "INVALID_ARGUMENT"),
            (b'{"prompt": "a", "guidance_scale": Infinity}', 422, "INVALID_ARGUMENT"),
        ],
        ids=lambda part: repr(part)[:50],
    )
    async def test_an_invalid_body_is_a_problem(self, front: Scripted, body: bytes, status: int, code: str) -> None:
        response = await front.client.post("/api/tasks", content=body, headers=JSON)
        assert_problem(response, status, code)

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b'{"prompt": "\xff"}', "it is not UTF-8"),
            (b"[" * 100_000, "it is nested too deeply"),
            (b'{"prompt": "a", "width": ' + b"9" * 5000 + b"}", "a number has too many digits"),
        ],
        ids=["bytes", "nesting", "digits"],
    )
    async def test_the_problem_of_an_unreadable_body_says_why(self, front: Scripted, body: bytes, reason: str) -> None:
        response = await front.client.post("/api/tasks", content=body, headers=JSON)
        assert assert_problem(response, 400)["detail"] == f"the body is not JSON: {reason}"

    async def test_a_problem_names_at_most_32_fields_and_shortens_their_names(self, front: Scripted) -> None:
        unknown = {"a" * 100_000: 1} | {f"field{i}": 1 for i in range(10_000)}
        response = await front.client.post("/api/tasks", json={"prompt": "a", **unknown})
        problem = assert_problem(response, 422, "INVALID_ARGUMENT")
        assert len(problem["errors"]) == 32
        assert problem["errors"][0]["field"] == "a" * 200 + "…"

    async def test_a_body_without_a_json_content_type_is_refused(self, front: Scripted) -> None:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            headers = {"content-type": kind} if kind else {}
            response = await front.client.post("/api/tasks", content=b'{"prompt": "a"}', headers=headers)
            assert_problem(response, 415, "UNSUPPORTED_MEDIA_TYPE")

    async def test_json_content_types_with_parameters_or_suffix_are_accepted(self, front: Scripted) -> None:
        for kind in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json"):
            response = await front.client.post("/api/tasks", content=b"{}", headers={"content-type": kind})
            assert wrong_fields(assert_problem(response, 422)) == {"prompt"}

    async def test_a_body_at_the_limit_is_accepted_and_one_byte_more_refused(self, front: Scripted) -> None:
        limit = 1024 * 1024
        padded = b'{"prompt": ""' + b" " * (limit - 14) + b"}"
        assert len(padded) == limit
        response = await front.client.post("/api/tasks", content=padded, headers=JSON)
        assert wrong_fields(assert_problem(response, 422)) == {"prompt"}
        response = await front.client.post("/api/tasks", content=padded + b" ", headers=JSON)
        assert_problem(response, 413, "BODY_TOO_LARGE")

    async def test_a_chunked_body_is_limited_too(self, front: Scripted) -> None:
        async def endless() -> Any:
            for _ in range(40):
                yield b" " * 32 * 1024

        response = await front.client.post("/api/tasks", content=endless(), headers=JSON)
        assert_problem(response, 413, "BODY_TOO_LARGE")
