"""Requests for tasks and lists: each limit at its edge and one beyond, and invalid types."""

import base64
import json
from typing import Any

import httpx2
import pytest
from frontispiece.posts.v1 import posts_pb2, tasks_pb2

from tests.gateway.conftest import assert_problem, wrong_fields
from tests.gateway.scripted import TASK_ID, Scripted

MAX_SEED = 2**53 - 1
MASK = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()

ACCEPTED = [
    {"prompt": "a"},
    {"prompt": "x" * 2000},
    {"prompt": "\U0001f3a8" * 2000},  # code points, not bytes or UTF-16 units
    {"prompt": "café, Zürich, 北京, עברית"},
    {"negative_prompt": "y" * 2000},
    {"width": 64},  # the size of a tiny model
    {"width": 4096, "height": 4096},
    {"num_inference_steps": 1},
    {"num_inference_steps": 80},
    {"guidance_scale": 0},
    {"guidance_scale": 30},
    {"guidance_scale": 7.25},
    {"candidate_count": 1},
    {"candidate_count": 4},
    {"seed": 0},
    {"seed": MAX_SEED},
    {"scheduler": ""},
    {"model": ""},
    {"guidance_end": 0.0},
    {"guidance_end": 1.0},
    {"denoising_end": 0.001},
    {"denoising_end": 0.999},
    {"loras": [{"name": "été", "weight": -4.0}, {"name": "b", "weight": 4.0}]},
    {"model": "é"},
    {"initial_image": {"key": "generated/a(1).png", "strength": 1.0}},
    {"initial_image": {"key": "x" * 512, "mask": MASK, "mask_feather": 64}},
    {"task_id": "ABCDEF00-0000-4000-8000-000000000000"},
    {"task_id": ""},
]

REFUSED = [
    ({"prompt": ""}, "prompt"),
    ({"prompt": "   "}, "prompt"),
    ({"prompt": "x" * 2001}, "prompt"),
    ({"prompt": "nul\0here"}, "prompt"),
    ({"prompt": "\x7f"}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": 7}, "prompt"),
    ({"prompt": ["a"]}, "prompt"),
    ({"negative_prompt": "y" * 2001}, "negative_prompt"),
    ({"negative_prompt": "\x1b"}, "negative_prompt"),
    ({"width": 56}, "width"),
    ({"width": 63}, "width"),
    ({"width": 4104}, "width"),
    ({"width": -8}, "width"),
    ({"width": 0}, "width"),
    ({"width": 2**31}, "width"),
    ({"width": 10**400}, "width"),
    ({"width": "512"}, "width"),
    ({"width": True}, "width"),
    ({"height": 300}, "height"),
    ({"height": 4097}, "height"),
    ({"num_inference_steps": 0}, "num_inference_steps"),
    ({"num_inference_steps": 81}, "num_inference_steps"),
    ({"num_inference_steps": 1.5}, "num_inference_steps"),
    ({"guidance_scale": -0.1}, "guidance_scale"),
    ({"guidance_scale": 30.1}, "guidance_scale"),
    ({"guidance_scale": 1e308}, "guidance_scale"),
    ({"guidance_scale": "7"}, "guidance_scale"),
    ({"candidate_count": -1}, "candidate_count"),
    ({"candidate_count": 5}, "candidate_count"),
    ({"seed": -1}, "seed"),
    ({"seed": MAX_SEED + 1}, "seed"),
    ({"use_generation": "yes"}, "use_generation"),
    ({"use_generation": 1}, "use_generation"),
    ({"task_id": "not-a-uuid"}, "task_id"),
    ({"scheduler": "x" * 65}, "scheduler"),
    ({"model": "x" * 201}, "model"),
    ({"guidance_end": 1.01}, "guidance_end"),
    ({"guidance_end": -0.01}, "guidance_end"),
    ({"loras": [{"name": c} for c in "abcde"]}, "loras"),
    ({"loras": [{"name": "a"}, {"name": "a"}]}, "loras[1].name"),
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
    ({"initial_image": {"key": "a//b"}}, "initial_image.key"),
    ({"initial_image": {"key": "x" * 513}}, "initial_image.key"),
    ({"initial_image": {"key": "x", "strength": 0}}, "initial_image.strength"),
    ({"initial_image": {"key": "x", "strength": 1.01}}, "initial_image.strength"),
    ({"initial_image": {"key": "x", "mask": "not base64!"}}, "initial_image.mask"),
    ({"initial_image": {"key": "x", "mask": "data:image/png;base64,iVBORw0KGgo="}}, "initial_image.mask"),
    ({"initial_image": {"key": "x", "mask": "é"}}, "initial_image.mask"),
    ({"initial_image": {"key": "x", "mask": base64.b64encode(bytes(262145)).decode()}}, "initial_image.mask"),
    ({"initial_image": {"key": "x", "mask": MASK, "mask_feather": -1}}, "initial_image.mask_feather"),
    ({"initial_image": {"key": "x", "mask": MASK, "mask_feather": 65}}, "initial_image.mask_feather"),
    ({"initial_image": {"key": "x", "mask": MASK, "mask_feather": 8.5}}, "initial_image.mask_feather"),
    ({"initial_image": {"key": "x", "mask": MASK, "mask_feather": "8"}}, "initial_image.mask_feather"),
    ({"initial_image": {"key": "x", "url": "http://x/media/x"}}, "initial_image.url"),
    ({"wdith": 512}, "wdith"),
    ({"state": "approved"}, "state"),
]


def given(parameters: Any, name: str) -> Any:
    """A field of a message as REST names it."""
    value = getattr(parameters, name)
    return [{"name": one.name, "weight": one.weight} for one in value] if name == "loras" else value


class TestLimits:
    @pytest.mark.parametrize("fields", ACCEPTED, ids=lambda fields: json.dumps(fields)[:60])
    async def test_a_value_at_its_limit_is_accepted_and_sent(self, accepting: Scripted, fields: dict[str, Any]) -> None:
        response = await accepting.client.post("/api/tasks", json={"prompt": "a door", **fields})
        assert response.status_code == 201, response.text
        assert response.headers["location"] == f"/api/tasks/{TASK_ID}"
        (request,) = accepting.scripts.sent("CreateTask")
        for name, value in fields.items():
            source = request if name in {"task_id", "candidate_count"} else request.parameters
            if name == "initial_image":
                initial = source.initial_image
                assert initial.key == value["key"]
                assert initial.mask == base64.b64decode(value.get("mask", ""))
            else:
                assert given(source, name) == value

    @pytest.mark.parametrize(("fields", "name"), REFUSED, ids=lambda part: json.dumps(part)[:60])
    @pytest.mark.parametrize("path", ["/api/tasks", "/api/media/generate-image"])
    async def test_a_value_beyond_its_limit_is_refused_with_its_name(
        self, accepting: Scripted, path: str, fields: dict[str, Any], name: str
    ) -> None:
        response = await accepting.client.post(path, json={"prompt": "a door", **fields})
        assert wrong_fields(assert_problem(response, 422, "INVALID_ARGUMENT")) == {name}
        assert accepting.scripts.sent("CreateTask") == []

    async def test_the_problem_of_a_negative_number_names_both_ends_of_its_range(self, accepting: Scripted) -> None:
        response = await accepting.client.post("/api/tasks", json={"prompt": "a door", "clip_skip": -1})
        (error,) = assert_problem(response, 422)["errors"]
        assert error["message"] == "must be from 0 to 11 layers"

    async def test_all_wrong_fields_are_named_in_one_response(self, accepting: Scripted) -> None:
        body = {"prompt": "", "width": 1, "colour": "red", "seed": "x", "loras": [{"name": "a", "weight": 5}]}
        response = await accepting.client.post("/api/tasks", json=body)
        assert wrong_fields(assert_problem(response, 422)) == {"prompt", "width", "colour", "seed", "loras[0].weight"}

    async def test_a_message_names_limit_unit_and_value(self, accepting: Scripted) -> None:
        body = {"prompt": "x" * 2001, "width": 63, "num_inference_steps": 81}
        document = assert_problem(await accepting.client.post("/api/tasks", json=body), 422)
        assert {error["field"]: error["message"] for error in document["errors"]} == {
            "prompt": "must have at most 2000 characters, has 2001",
            "width": "must be a multiple of 8, from 64 to 4096 pixels; is 63",
            "num_inference_steps": "must be from 1 to 80 steps; is 81",
        }
        assert document["detail"].startswith("prompt: must have at most 2000 characters, has 2001; width: ")

    @pytest.mark.parametrize(
        ("text", "normalised"),
        [
            ("cafe\u0301", "café"),
            ("two\nlines", "two lines"),
            ("two\r\nlines\tand a tab", "two lines and a tab"),
            (" " + "x" * 2000 + " ", "x" * 2000),
        ],
        ids=["decomposed letters", "line break", "tab", "spaces around 2,000 letters"],
    )
    async def test_text_is_normalised_before_it_is_measured(
        self, accepting: Scripted, text: str, normalised: str
    ) -> None:
        response = await accepting.client.post("/api/tasks", json={"prompt": text})
        assert response.status_code == 201, response.text
        assert accepting.scripts.sent("CreateTask")[0].parameters.prompt == normalised

    @pytest.mark.parametrize(("size", "sent"), [(0, 0), (1, 1), (100, 100), (101, 100)])
    async def test_a_page_size_above_the_limit_counts_as_the_limit(self, front: Scripted, size: int, sent: int) -> None:
        front.scripts.on("ListTasks", lambda _: tasks_pb2.ListTasksResponse())
        front.scripts.on("ListPosts", lambda _: posts_pb2.ListPostsResponse())
        for path, method in (("/api/tasks", "ListTasks"), ("/api/posts", "ListPosts")):
            assert (await front.client.get(path, params={"page_size": size})).status_code == 200
            assert front.scripts.sent(method)[0].page_size == sent

    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("page_size=-1", "page_size"),
            ("page_size=many", "page_size"),
            ("pagesize=2", "pagesize"),
            ("state=lost", "state"),
        ],
    )
    async def test_an_invalid_query_is_refused_with_its_name(self, front: Scripted, query: str, name: str) -> None:
        for path in ("/api/tasks", "/api/posts"):
            response = await front.client.get(f"{path}?{query}")
            assert wrong_fields(assert_problem(response, 422, "INVALID_ARGUMENT")) == {name}

    async def test_a_search_that_is_too_long_is_refused_with_its_rest_name(self, front: Scripted) -> None:
        response = await front.client.get("/api/posts", params={"q": "x" * 201})
        assert wrong_fields(assert_problem(response, 422)) == {"q"}

    async def test_an_invalid_page_token_is_refused(self, editor: httpx2.AsyncClient) -> None:
        for path in ("/api/tasks", "/api/posts"):
            document = assert_problem(await editor.get(f"{path}?page_token=made-up"), 422)
            assert wrong_fields(document) == {"page_token"}
