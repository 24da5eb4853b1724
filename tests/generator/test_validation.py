"""The rules of the models: defaults, refusals by name, and ranges that the contract accepts."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from frontispiece.types.v1 import generation_pb2 as types
from PIL import Image

from rpc import errors
from rpc.validation import check
from services.generator.engine import CheckpointError
from services.generator.models import ModelInfo
from services.generator.sdxl.loading import checkpoints, model_info
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.loading.tiny import make_checkpoint
from services.generator.validation import resolve, used_initial_image
from tests.generator.fake import MODEL, FakeEngine
from tests.generator.harness import Client, sdxl, serve

REFINED = replace(MODEL, refiner="refiner", loras=("style", "sketch"))


def parameters(**fields: Any) -> types.GenerationParameters:
    return types.GenerationParameters(**{"prompt": "a fox", **fields})


def problems(models: Sequence[ModelInfo] = (REFINED,), **fields: Any) -> list[str]:
    with pytest.raises(errors.InvalidArgument) as caught:
        resolve(parameters(**fields), models)
    return [violation.field for violation in caught.value.violations]


class TestDefaults:
    def test_those_of_the_model_and_of_the_contract(self) -> None:
        request = resolve(parameters(loras=[types.Lora(name="style")]), [REFINED])
        assert (request.model, request.width, request.height) == ("tiny", 64, 64)
        assert (request.num_inference_steps, request.guidance_scale, request.scheduler) == (4, 5, "euler")
        assert (request.guidance_end, request.denoising_end, request.refiner) == (1, None, "")
        assert [(lora.name, lora.weight) for lora in request.loras] == [("style", 1)]

    def test_a_seed_is_chosen_that_the_contract_accepts(self) -> None:
        seeds = {resolve(parameters(), [MODEL]).seed for _ in range(20)}
        assert len(seeds) == 20
        for seed in seeds:
            check(parameters(seed=seed))

    @pytest.mark.parametrize(
        ("given", "strength", "feather"),
        [
            ({}, 0.6, None),
            ({"strength": 0.3}, 0.3, None),
            ({"mask": b"m"}, 1.0, 8),
            ({"mask": b"m", "strength": 0.3, "mask_feather": 0}, 0.3, 0),
        ],
        ids=["image", "strength", "mask", "mask with both"],
    )
    def test_of_an_initial_image(self, given: dict[str, Any], strength: float, feather: int | None) -> None:
        used = used_initial_image(types.InitialImage(key="a.png", **given))
        assert used == types.InitialImage(
            key="a.png", strength=strength, mask_feather=feather, has_mask="mask" in given
        )

    def test_explicit_zeros_are_no_defaults(self) -> None:
        request = resolve(parameters(guidance_scale=0, seed=0, guidance_end=0), [MODEL])
        assert (request.guidance_scale, request.seed, request.guidance_end) == (0, 0, 0)


class TestRefusals:
    @pytest.mark.parametrize(
        ("field", "fields"),
        [
            ("model", {"model": "other"}),
            ("scheduler", {"scheduler": "nobody"}),
            ("width", {"width": 264}),
            ("height", {"height": 68}),
            ("loras[1].name", {"loras": [types.Lora(name="style"), types.Lora(name="other")]}),
            ("initial_image.mask_feather", {"initial_image": types.InitialImage(key="a", mask_feather=1)}),
            ("initial_image", {"initial_image": types.InitialImage(key="a"), "source": types.IMAGE_SOURCE_STOCK}),
            ("denoising_end", {"denoising_end": 0.4, "initial_image": types.InitialImage(key="a", strength=0.6)}),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_the_field_is_named(self, field: str, fields: dict[str, Any]) -> None:
        assert problems(**fields) == [f"parameters.{field}"]

    def test_all_at_once(self) -> None:
        assert problems(width=264, scheduler="nobody", num_inference_steps=81) == [
            "parameters.width",
            "parameters.num_inference_steps",
            "parameters.scheduler",
        ]

    def test_more_pixels_than_the_model_makes(self) -> None:
        assert problems([replace(MODEL, max_pixels=128 * 128)], width=128, height=136) == ["parameters.width"]
        resolve(parameters(width=128, height=128), [replace(MODEL, max_pixels=128 * 128)])

    def test_no_refiner_and_no_initial_images(self) -> None:
        plain = replace(MODEL, initial_images=False)
        given = {"denoising_end": 0.8, "initial_image": types.InitialImage(key="a")}
        assert problems([plain], **given) == ["parameters.denoising_end", "parameters.initial_image"]

    def test_loras_are_ignored_for_a_stock_photo(self) -> None:
        resolve(parameters(loras=[types.Lora(name="other")], source=types.IMAGE_SOURCE_STOCK), [MODEL])

    def test_limit_and_unit_are_named(self) -> None:
        with pytest.raises(errors.InvalidArgument) as caught:
            resolve(parameters(width=63), [MODEL])
        (violation,) = caught.value.violations
        assert violation.description == "must be a multiple of 8, from 64 to 256 pixels; is 63"


class TestRanges:
    """Whatever GetCapabilities offers, the contract accepts."""

    @staticmethod
    def describe(folder: Path, about: dict[str, Any]) -> ModelInfo:
        make_checkpoint(folder, size=64)
        (folder / "frontispiece.json").write_text(json.dumps(about))
        return model_info.describe(checkpoints.find(ModelSource.parse("", str(folder)), folder.parent), None).info

    @pytest.mark.parametrize("limits", [{}, {"min_width": 8, "max_width": 65_536, "max_height": 9000}])
    def test_the_edges_of_every_range(self, tmp_path: Path, limits: dict[str, int]) -> None:
        info = self.describe(tmp_path / "m", {"limits": limits})
        for name in ("width", "height", "num_inference_steps", "guidance_scale"):
            allowed = getattr(info, name)
            for value in (allowed.min, allowed.max, allowed.default):
                check(parameters(**{name: value}))
        for scheduler in info.schedulers:
            check(parameters(scheduler=scheduler, model=info.id))
        check(parameters(prompt="x" * info.max_prompt_length))

    @pytest.mark.parametrize(
        "defaults", [{"width": 8}, {"width": 100}, {"height": 8192}, {"num_inference_steps": 0}, {"guidance_scale": 31}]
    )
    def test_a_default_outside_the_contract_is_refused(self, tmp_path: Path, defaults: dict[str, Any]) -> None:
        with pytest.raises(CheckpointError, match=r"frontispiece\.json"):
            self.describe(tmp_path / "m", {"defaults": defaults})

    def test_a_name_that_no_request_can_have_is_refused(self, tmp_path: Path) -> None:
        make_checkpoint(tmp_path / "m", size=64)
        source = ModelSource("x" * 201, str(tmp_path / "m"))
        with pytest.raises(CheckpointError, match="cannot be used in a request"):
            model_info.describe(checkpoints.find(source, tmp_path), None)

    def test_loras_that_no_request_can_name_are_not_offered(self, tmp_path: Path) -> None:
        make_checkpoint(tmp_path / "m", size=64)
        for name in ("style", "x" * 201, " spaced"):
            (tmp_path / f"{name}.safetensors").touch()
        found = checkpoints.find(ModelSource("m", str(tmp_path / "m")), tmp_path)
        assert model_info.describe(found, tmp_path).info.loras == ("style",)


class TestValidateParameters:
    @staticmethod
    async def refused(client: Client, **fields: Any) -> errors.RpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.validate(**{"prompt": "a fox", **fields})
        return errors.from_call(caught.value)

    async def test_it_has_the_verdict_of_generate(self, client: Client) -> None:
        await client.validate(prompt="a fox", width=128, scheduler="ddim")
        for fields in (
            {"prompt": ""},
            {"width": 2000},
            {"model": "other"},
            {"clip_skip": 2},
            {"prompt": "a " * 999, "negative_prompt": "1" * 2000, "guidance_scale": 31},
        ):
            error = await self.refused(client, **fields)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.generate(**{"prompt": "a fox", **fields})
            assert errors.from_call(caught.value).violations == error.violations != ()

    @pytest.mark.parametrize(
        ("lightness", "is_accepted"), [(0, False), (127, False), (128, True), (255, True)], ids=str
    )
    async def test_a_mask_that_marks_nothing_is_refused_at_once(
        self, client: Client, lightness: int, is_accepted: bool
    ) -> None:
        file = io.BytesIO()
        Image.new("L", (30, 20), lightness).save(file, "PNG")
        fields = {"initial_image": types.InitialImage(key="a.png", mask=file.getvalue())}
        if is_accepted:
            await client.validate(prompt="a fox", **fields)
        else:
            error = await self.refused(client, **fields)
            assert [violation.field for violation in error.violations] == ["parameters.initial_image.mask"]
            assert "128" in error.message

    async def test_the_length_in_tokens_is_checked_without_a_step(self, client: Client) -> None:
        # In the vocabulary of `tiny` each byte is a token, and the Chinese character has three: 6,000 tokens.
        error = await self.refused(client, prompt="山" * 2000, negative_prompt="水" * 2000)
        assert [violation.field for violation in error.violations] == [
            "parameters.prompt",
            "parameters.negative_prompt",
        ]
        assert "6000 tokens" in error.message
        assert (await client.capabilities()).free_slot_count == 4

    async def test_what_needs_the_weights_is_left_out_for_a_model_that_is_not_loaded(
        self, checkpoint: Path, tmp_path: Path
    ) -> None:
        from services.generator.sdxl.engine import SdxlEngine
        from tests.generator.harness import cpu_options

        make_checkpoint(tmp_path / "second", size=64)
        sources = [ModelSource.parse("", str(path)) for path in (checkpoint, tmp_path / "second")]
        async with serve(SdxlEngine(sources, cpu_options(tmp_path, max_batch=1))) as client:
            await client.validate(prompt="山" * 2000, model="second")
            assert (await self.refused(client, prompt="山" * 2000)).violations
            assert (await self.refused(client, prompt="山", model="second", width=2000)).violations

    async def test_stock_photos_need_a_key(self) -> None:
        async with serve(FakeEngine()) as client:
            error = await self.refused(client, source=types.IMAGE_SOURCE_STOCK)
        assert isinstance(error, errors.FailedPrecondition)

    async def test_the_bytes_of_an_initial_image_are_not_needed(self, checkpoint: Path) -> None:
        async with serve(sdxl(checkpoint)) as client:
            await client.validate(prompt="a fox", initial_image=types.InitialImage(key="a.png", strength=0.5))
