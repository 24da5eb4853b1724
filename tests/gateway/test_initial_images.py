"""Initial images over REST: generated and uploaded ones, the whole image or a part."""

import base64
import io
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from PIL import Image, ImageChops, ImageDraw

from tests.gateway.conftest import SMALL, assert_problem, paint, wrong_fields

PATH = "/api/media/generate-image"


@pytest.fixture
async def begun(editor: httpx2.AsyncClient) -> dict[str, Any]:
    """A painted picture."""
    image: dict[str, Any] = (await paint(editor, num_inference_steps=6, seed=3))["images"][0]
    return image


async def pixels(editor: httpx2.AsyncClient, image: dict[str, Any]) -> Image.Image:
    data = (await editor.get(urlsplit(image["url"]).path)).content
    return Image.open(io.BytesIO(data)).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures of one size, 0 to 255."""
    histogram = ImageChops.difference(one, other).convert("L").histogram()
    return sum(value * count for value, count in enumerate(histogram)) / sum(histogram)


def encoded(mask: Image.Image, **options: Any) -> str:
    file = io.BytesIO()
    mask.save(file, "PNG", **options)
    return base64.b64encode(file.getvalue()).decode()


async def test_the_capabilities_list_initial_images(editor: httpx2.AsyncClient) -> None:
    model = (await editor.get("/api/capabilities")).json()["models"][0]
    assert (model["initial_images"], model["refiner"]) == (True, "")


async def test_a_lower_strength_keeps_more_of_the_image(editor: httpx2.AsyncClient, begun: dict[str, Any]) -> None:
    source = await pixels(editor, begun)
    differences = []
    for strength in (0.2, 1.0):
        body = {"prompt": "a door in a wall", "seed": 8, "num_inference_steps": 10}
        answer = await editor.post(PATH, json={**body, "initial_image": {"key": begun["key"], "strength": strength}})
        assert answer.status_code == 200, answer.text
        differences.append(difference(source, await pixels(editor, answer.json()["images"][0])))
    assert differences[0] < differences[1]


async def test_pixels_outside_of_the_mask_are_unchanged(editor: httpx2.AsyncClient, begun: dict[str, Any]) -> None:
    mask = Image.new("L", (256, 256), 0)
    ImageDraw.Draw(mask).rectangle((128, 0, 255, 255), fill=255)
    body = {**SMALL, "prompt": "a red apple", "num_inference_steps": 8, "seed": 11}
    answer = await editor.post(PATH, json={**body, "initial_image": {"key": begun["key"], "mask": encoded(mask)}})
    assert answer.status_code == 200, answer.text
    task = (await editor.get(f"/api/tasks/{answer.json()['task_id']}")).json()
    kept = {"key": begun["key"], "url": begun["url"], "strength": None, "has_mask": True, "mask_feather": None}
    assert task["parameters"]["initial_image"] == kept
    before, after = await pixels(editor, begun), await pixels(editor, task["images"][0])
    left, right = (0, 0, 128, 256), (136, 0, 256, 256)  # the pixels between them are the transition
    assert difference(before.crop(left), after.crop(left)) == 0
    assert difference(before.crop(right), after.crop(right)) > 5


async def test_the_transition_is_as_wide_as_mask_feather(editor: httpx2.AsyncClient, begun: dict[str, Any]) -> None:
    """One pixel further in than it reaches, what is painted is the same as within a hard one."""
    mask = Image.new("L", (256, 256), 0)
    ImageDraw.Draw(mask).rectangle((128, 0, 255, 255), fill=255)
    painted = {}
    for feather in (0, 20):
        initial = {"key": begun["key"], "mask": encoded(mask), "mask_feather": feather}
        body = {**SMALL, "prompt": "a red apple", "num_inference_steps": 4, "seed": 11, "initial_image": initial}
        answer = await editor.post(PATH, json=body)
        assert answer.status_code == 200, answer.text
        task = (await editor.get(f"/api/tasks/{answer.json()['task_id']}")).json()
        assert task["parameters"]["initial_image"]["mask_feather"] == feather
        painted[feather] = await pixels(editor, task["images"][0])
    hard, soft = painted[0], painted[20]
    assert difference(hard.crop((148, 0, 256, 256)), soft.crop((148, 0, 256, 256))) == 0
    assert difference(hard.crop((128, 0, 148, 256)), soft.crop((128, 0, 148, 256))) > 1
    assert difference(hard.crop((0, 0, 128, 256)), soft.crop((0, 0, 128, 256))) == 0


async def test_an_uploaded_photo_is_an_initial_image(editor: httpx2.AsyncClient) -> None:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((640, 400)).convert("RGB").save(file, "JPEG")
    upload = await editor.post("/api/media/images", content=file.getvalue(), headers={"content-type": "image/jpeg"})
    body = {"prompt": "a castle on a green hill", "initial_image": {"key": upload.json()["key"]}}
    answer = await editor.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["width"], answer.json()["height"]) == (256, 256)  # the only size of the default model


async def test_a_mask_at_the_size_limit_fits_into_a_body(editor: httpx2.AsyncClient, begun: dict[str, Any]) -> None:
    """With long texts whose characters each take six bytes, and as many tokens as the model reads."""
    noise = Image.effect_noise((505, 505), 100)
    data = base64.b64decode(encoded(noise, compress_level=0))
    assert 255_000 < len(data) <= 262_144
    text = ("\u4eac" * 5 + " ") * 50
    texts = {"prompt": text, "negative_prompt": text}
    initial = {"key": begun["key"], "mask": base64.b64encode(data).decode()}
    response = await editor.post("/api/tasks", json={**SMALL, **texts, "initial_image": initial})
    assert response.status_code == 201, response.text
    assert response.json()["parameters"]["initial_image"]["has_mask"]
    await editor.post(f"/api/tasks/{response.json()['id']}/cancel")


async def test_a_damaged_mask_is_refused_with_its_name(editor: httpx2.AsyncClient, begun: dict[str, Any]) -> None:
    mask = base64.b64decode(encoded(Image.new("L", (8, 8))))
    broken = base64.b64encode(mask[:-20]).decode()
    body = {"prompt": "x", "initial_image": {"key": begun["key"], "mask": broken}}
    document = assert_problem(await editor.post("/api/tasks", json=body), 422, "INVALID_ARGUMENT")
    assert wrong_fields(document) == {"initial_image.mask"}
