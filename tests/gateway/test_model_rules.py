"""What the models decide: a task that none of them can do is refused when it is created."""

import base64
import json
from typing import Any

import httpx2
import pytest

from rpc import errors
from tests.gateway.conftest import assert_problem, paint, wrong_fields
from tests.gateway.scripted import Scripted


class TestModelRules:
    async def test_a_refusal_of_the_generators_names_its_fields(self, front: Scripted) -> None:
        def refuse(request: Any) -> None:
            violations = [
                errors.FieldViolation("parameters.width", "must be a multiple of 64; is 520"),
                errors.FieldViolation("parameters.loras[0].name", "is not a LoRA of this model"),
                errors.FieldViolation("parameters.source", "stock photos are not configured"),
            ]
            raise errors.InvalidArgument.fields(violations)

        front.scripts.on("CreateTask", refuse)
        body = {"prompt": "a door", "width": 520, "loras": [{"name": "x"}]}
        for path in ("/api/tasks", "/api/media/generate-image"):
            document = assert_problem(await front.client.post(path, json=body), 422, "INVALID_ARGUMENT")
            assert [error["field"] for error in document["errors"]] == ["width", "loras[0].name", "use_generation"]
            assert document["detail"].startswith("width: must be a multiple of 64; is 520; loras[0].name: ")

    @pytest.mark.parametrize(
        ("fields", "name"),
        [
            ({"model": "no-such-model"}, "model"),
            ({"scheduler": "no-such-scheduler"}, "scheduler"),
            ({"loras": [{"name": "no-such-lora"}]}, "loras[0].name"),
            ({"width": 72}, "width"),
            ({"denoising_end": 0.8}, "denoising_end"),
            ({"prompt": "x " * 1000 + "\U0001f3a8" * 999}, "prompt"),
        ],
        ids=lambda part: json.dumps(part)[:40],
    )
    async def test_a_task_that_no_model_can_do_is_refused_at_once(
        self, editor: httpx2.AsyncClient, fields: dict[str, Any], name: str
    ) -> None:
        response = await editor.post("/api/tasks", json={"prompt": "a door", **fields})
        assert wrong_fields(assert_problem(response, 422, "INVALID_ARGUMENT")) == {name}

    @pytest.mark.parametrize(
        ("initial", "name"),
        [
            ({"key": "generated/none.png"}, "initial_image.key"),
            ({"mask_feather": 8}, "initial_image.mask_feather"),
            ({"mask": base64.b64encode(b"not a PNG").decode()}, "initial_image.mask"),
            ({"mask": base64.b64encode(bytes(262145)).decode()}, "initial_image.mask"),
        ],
        ids=["missing image", "feather without a mask", "not a PNG", "large mask"],
    )
    async def test_an_initial_image_that_cannot_be_used_is_refused_at_once(
        self, editor: httpx2.AsyncClient, initial: dict[str, Any], name: str
    ) -> None:
        stored = (await paint(editor))["images"][0]["key"]
        body = {"prompt": "a door", "initial_image": {"key": stored, **initial}}
        response = await editor.post("/api/tasks", json=body)
        assert wrong_fields(assert_problem(response, 422)) == {name}
