"""What may come in: each limit at its edge and one beyond, and everything that is not what it should be."""

import base64
import json
from typing import Any

import httpx2
import pytest

from tests.gateway.conftest import assert_problem, paint, wrong_fields

JSON = {"content-type": "application/json"}
MAX_SEED = 2**53 - 1
MASK = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()  # as much of one as the gateway looks at

ACCEPTED = [
    {"prompt": "a"},
    {"prompt": "x" * 2000},
    {"prompt": "\U0001f3a8" * 2000},  # code points, not bytes or UTF-16 units
    {"prompt": "café, Zürich, 北京, עברית"},
    {"negative_prompt": "y" * 2000},
    {"width": 256},
    {"width": 1024, "height": 1536},
    {"width": 1536, "height": 1040},  # 1,597,440 pixels
    {"num_inference_steps": 1},
    {"num_inference_steps": 80},
    {"guidance_scale": 0},
    {"guidance_scale": 30},
    {"guidance_scale": 7.25},
    {"candidate_count": 1},
    {"candidate_count": 4},
    {"seed": 0},
    {"seed": MAX_SEED - 3},
    {"scheduler": ""},
    {"model": ""},
    {"guidance_end": 0.0},
    {"guidance_end": 1.0},
    {"denoising_end": 0.001},
    {"denoising_end": 0.999},
    {"loras": [{"name": "été", "weight": -4.0}, {"name": "b", "weight": 4.0}]},
]

REFUSED = [
    ({"prompt": ""}, "prompt"),
    ({"prompt": "   "}, "prompt"),
    ({"prompt": "x" * 2001}, "prompt"),
    ({"prompt": "tab\there"}, "prompt"),
    ({"prompt": "nul\0here"}, "prompt"),
    ({"prompt": "line\nbreak"}, "prompt"),
    ({"prompt": "\x7f"}, "prompt"),
    ({"prompt": "\x85"}, "prompt"),
    ({"prompt": "cafe\u0301"}, "prompt"),  # NFD
    ({"prompt": None}, "prompt"),
    ({"prompt": 7}, "prompt"),
    ({"prompt": ["a"]}, "prompt"),
    ({"negative_prompt": "y" * 2001}, "negative_prompt"),
    ({"negative_prompt": "\x1b"}, "negative_prompt"),
    ({"width": 248}, "width"),
    ({"width": 1544}, "width"),
    ({"width": 257}, "width"),
    ({"width": -8}, "width"),
    ({"width": 0}, "width"),
    ({"width": 2**31}, "width"),
    ({"width": 10**400}, "width"),
    ({"width": "512"}, "width"),
    ({"width": 512.0}, "width"),
    ({"width": True}, "width"),
    ({"height": 248}, "height"),
    ({"height": 1544}, "height"),
    ({"height": 300}, "height"),
    ({"width": 1536, "height": 1048}, "height"),  # 1,609,728 pixels
    ({"num_inference_steps": 0}, "num_inference_steps"),
    ({"num_inference_steps": 81}, "num_inference_steps"),
    ({"num_inference_steps": 1.5}, "num_inference_steps"),
    ({"guidance_scale": -0.1}, "guidance_scale"),
    ({"guidance_scale": 30.1}, "guidance_scale"),
    ({"guidance_scale": 1e308}, "guidance_scale"),
    ({"guidance_scale": "7"}, "guidance_scale"),
    ({"candidate_count": 0}, "candidate_count"),
    ({"candidate_count": 5}, "candidate_count"),
    ({"seed": -1}, "seed"),
    ({"seed": MAX_SEED + 1}, "seed"),
    ({"use_generation": "yes"}, "use_generation"),
    ({"use_generation": 1}, "use_generation"),
    ({"task_id": "not-a-uuid"}, "task_id"),
    ({"task_id": ""}, "task_id"),
    ({"scheduler": "x" * 65}, "scheduler"),
    ({"scheduler": "a b"}, "scheduler"),
    ({"model": "x" * 201}, "model"),
    ({"model": "é"}, "model"),
    ({"guidance_end": 1.01}, "guidance_end"),
    ({"guidance_end": -0.01}, "guidance_end"),
    ({"loras": [{"name": c} for c in "abcde"]}, "loras"),
    ({"loras": [{"name": "a"}, {"name": "a"}]}, "loras"),
    ({"loras": [{"name": ""}]}, "loras[0].name"),
    ({"loras": [{"name": "a"}, {"name": "b", "weight": 4.1}]}, "loras[1].weight"),
    ({"loras": [{"name": "a", "wait": 1}]}, "loras[0].wait"),
    ({"denoising_end": 0}, "denoising_end"),
    ({"denoising_end": 1}, "denoising_end"),
    ({"denoising_end": "0.8"}, "denoising_end"),
    ({"initial_image": "generated/x.png"}, "initial_image"),
    ({"initial_image": {}}, "initial_image.key"),
    ({"initial_image": {"key": ""}}, "initial_image.key"),
    ({"initial_image": {"key": "a b"}}, "initial_image.key"),
    ({"initial_image": {"key": "../token"}}, "initial_image.key"),
    ({"initial_image": {"key": "x" * 513}}, "initial_image.key"),
    ({"initial_image": {"key": "generated/none.png"}}, "initial_image.key"),
    ({"initial_image": {"key": "x", "strength": 0}}, "initial_image.strength"),
    ({"initial_image": {"key": "x", "strength": 1.01}}, "initial_image.strength"),
    ({"initial_image": {"key": "x", "mask": "not base64!"}}, "initial_image.mask"),
    ({"initial_image": {"key": "x", "mask": "data:image/png;base64,iVBORw0KGgo="}}, "initial_image.mask"),
    ({"initial_image": {"key": "x", "mask": "é"}}, "initial_image.mask"),
    ({"initial_image": {"key": "x", "mask": "AAAA"}}, "initial_image.mask"),
    ({"initial_image": {"key": "x", "mask": MASK}}, "initial_image.mask"),
    ({"initial_image": {"key": "x", "mask": base64.b64encode(bytes(262145)).decode()}}, "initial_image.mask"),
    ({"initial_image": {"key": "x", "mask_feather": 8}}, "initial_image.mask_feather"),  # of what?
    ({"initial_image": {"key": "x", "mask": "", "mask_feather": 0}}, "initial_image.mask"),
    ({"initial_image": {"key": "x", "mask": MASK, "mask_feather": -1}}, "initial_image.mask_feather"),
    ({"initial_image": {"key": "x", "mask": MASK, "mask_feather": 65}}, "initial_image.mask_feather"),
    ({"initial_image": {"key": "x", "mask": MASK, "mask_feather": 8.5}}, "initial_image.mask_feather"),
    ({"initial_image": {"key": "x", "mask": MASK, "mask_feather": "8"}}, "initial_image.mask_feather"),
    ({"initial_image": {"key": "x", "url": "http://x/media/x"}}, "initial_image.url"),
    ({"initial_image": {"key": "x"}, "use_generation": False}, "initial_image"),
    ({"wdith": 512}, "wdith"),
    ({"state": "approved"}, "state"),
]


class TestLimits:
    @pytest.mark.parametrize("fields", ACCEPTED, ids=lambda fields: json.dumps(fields)[:60])
    async def test_the_edge_is_accepted(self, editor: httpx2.AsyncClient, fields: dict[str, Any]) -> None:
        response = await editor.post("/api/tasks", json={"prompt": "a door", **fields})
        assert response.status_code == 201, response.text
        task = response.json()
        assert response.headers["location"] == f"/api/tasks/{task['id']}"
        wanted = {name: value for name, value in fields.items() if value != ""}
        assert wanted.items() <= task["parameters"].items()
        await editor.post(f"/api/tasks/{task['id']}/cancel")

    @pytest.mark.parametrize(("fields", "name"), REFUSED, ids=lambda part: json.dumps(part)[:60])
    @pytest.mark.parametrize("path", ["/api/tasks", "/api/media/generate-image"])
    async def test_one_beyond_is_refused_by_name(
        self, editor: httpx2.AsyncClient, path: str, fields: dict[str, Any], name: str
    ) -> None:
        response = await editor.post(path, json={"prompt": "a door", **fields})
        code = "IMAGE_NOT_FOUND" if "none.png" in str(fields) else "INVALID_ARGUMENT"
        assert wrong_fields(assert_problem(response, 422, code)) == {name}

    async def test_all_wrong_fields_are_named_at_once(self, editor: httpx2.AsyncClient) -> None:
        response = await editor.post("/api/tasks", json={"prompt": "", "width": 1, "colour": "red"})
        assert wrong_fields(assert_problem(response, 422)) == {"prompt", "width", "colour"}

    @pytest.mark.parametrize("size", [1, 100])
    async def test_page_size_at_the_edge(self, editor: httpx2.AsyncClient, size: int) -> None:
        for path in ("/api/tasks", "/api/posts"):
            assert (await editor.get(path, params={"page_size": size})).status_code == 200

    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("page_size=0", "page_size"),
            ("page_size=101", "page_size"),
            ("page_size=-1", "page_size"),
            ("page_size=many", "page_size"),
            ("pagesize=2", "pagesize"),
            ("state=lost", "state"),
        ],
    )
    async def test_a_wrong_query_is_refused_by_name(self, editor: httpx2.AsyncClient, query: str, name: str) -> None:
        for path in ("/api/tasks", "/api/posts"):
            response = await editor.get(f"{path}?{query}")
            assert wrong_fields(assert_problem(response, 422, "INVALID_ARGUMENT")) == {name}

    async def test_a_made_up_page_token_is_refused(self, editor: httpx2.AsyncClient) -> None:
        for path in ("/api/tasks", "/api/posts"):
            document = assert_problem(await editor.get(f"{path}?page_token=made-up"), 422)
            assert wrong_fields(document) == {"page_token"}


APPROVAL_ACCEPTED: list[dict[str, Any]] = [
    {"title": "t" * 200, "content": "c" * 100_000, "alt_text": "a" * 500},
    {"tags": [f"{number}" * 50 for number in range(8)]},
    {"content": "One line.\n\n\tAnother.\n"},
]
APPROVAL_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"title": "t" * 201}, "title"),
    ({"title": " "}, "title"),
    ({"title": "two\nlines"}, "title"),
    ({"content": "c" * 100_001}, "content"),
    ({"content": "bell\x07"}, "content"),
    ({"alt_text": "a" * 501}, "alt_text"),
    ({"tags": [str(number) for number in range(9)]}, "tags"),
    ({"tags": ["ok", "x" * 51]}, "tags[1]"),
    ({"tags": [""]}, "tags[0]"),
    ({"tags": "sea"}, "tags"),
    ({"tags": [1]}, "tags[0]"),
    ({"slug": "Not A Slug"}, "slug"),
    ({"slug": "x" * 101}, "slug"),
    ({"author_id": "somebody"}, "author_id"),
    ({"image_index": -1}, "image_index"),
    ({"image_index": 4}, "image_index"),
    ({"publish": "false"}, "publish"),
    ({"created_by": "me"}, "created_by"),
    ({"featured_image_url": "https://example.org/x.png"}, "featured_image_url"),
]


class TestApprovalLimits:
    @pytest.mark.parametrize("fields", APPROVAL_ACCEPTED, ids=["long", "tags", "paragraphs"])
    async def test_the_edge_is_accepted(self, editor: httpx2.AsyncClient, fields: dict[str, Any]) -> None:
        task = await paint(editor)
        body = {"title": "A door", "publish": False, **fields}
        response = await editor.post(f"/api/tasks/{task['task_id']}/approve", json=body)
        assert response.status_code == 200, response.text
        post = response.json()["post"]
        assert post["title"] == body["title"]
        assert sorted(post["tags"]) == sorted(body.get("tags", []))
        assert post["content"] == body.get("content", "")

    async def test_one_beyond_is_refused_by_name(self, editor: httpx2.AsyncClient) -> None:
        task = await paint(editor)
        path = f"/api/tasks/{task['task_id']}/approve"
        for fields, name in APPROVAL_REFUSED:
            response = await editor.post(path, json={"title": "A door", **fields})
            assert wrong_fields(assert_problem(response, 422)) == {name}, fields
        assert (await editor.get(f"/api/tasks/{task['task_id']}")).json()["state"] == "awaiting_approval"


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (b"{", 400, "MALFORMED_JSON"),
            (b"{'prompt': 'a'}", 400, "MALFORMED_JSON"),
            (b'{"prompt": "a"} x', 400, "MALFORMED_JSON"),
            (b"\xff\xfe", 400, None),
            (b'{"prompt": "\xff"}', 400, None),
            (b"[" * 100_000, 400, None),
            (b'{"prompt": "a", "width": ' + b"9" * 5000 + b"}", 400, None),
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
    async def test_what_is_no_request_is_a_problem(
        self, editor: httpx2.AsyncClient, body: bytes, status: int, code: str | None
    ) -> None:
        response = await editor.post("/api/tasks", content=body, headers=JSON)
        assert_problem(response, status, code)

    async def test_a_body_must_be_declared_as_json(self, editor: httpx2.AsyncClient) -> None:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            headers = {"content-type": kind} if kind else {}
            response = await editor.post("/api/tasks", content=b'{"prompt": "a"}', headers=headers)
            assert_problem(response, 415, "UNSUPPORTED_MEDIA_TYPE")

    async def test_other_names_of_json_are_json(self, editor: httpx2.AsyncClient) -> None:
        for kind in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json"):
            response = await editor.post("/api/tasks", content=b"{}", headers={"content-type": kind})
            assert wrong_fields(assert_problem(response, 422)) == {"prompt"}

    async def test_the_largest_body_passes_and_one_byte_more_does_not(self, editor: httpx2.AsyncClient) -> None:
        limit = 1024 * 1024
        padded = b'{"prompt": ""' + b" " * (limit - 14) + b"}"
        assert len(padded) == limit
        response = await editor.post("/api/tasks", content=padded, headers=JSON)
        assert wrong_fields(assert_problem(response, 422)) == {"prompt"}
        response = await editor.post("/api/tasks", content=padded + b" ", headers=JSON)
        assert_problem(response, 413, "BODY_TOO_LARGE")

    async def test_a_body_without_length_is_counted_too(self, editor: httpx2.AsyncClient) -> None:
        async def endless() -> Any:
            for _ in range(40):
                yield b" " * 32 * 1024

        response = await editor.post("/api/tasks", content=endless(), headers=JSON)
        assert_problem(response, 413, "BODY_TOO_LARGE")
