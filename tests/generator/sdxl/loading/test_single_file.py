"""A checkpoint as one .safetensors file in the layout of Stability AI's own code, with its configuration beside it."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from services.generator.engine import CheckpointError
from services.generator.models import ImageRequest
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading import checkpoints
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.loading.tiny import build_pipeline
from tests.generator.harness import request, sdxl, serve
from tests.generator.sdxl.loading import sgm


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def file(checkpoint: Path, tmp_path: Path) -> Path:
    """The weights of the small checkpoint as one file, and a folder of its JSON files beside it, named like it."""
    made = tmp_path / "painter.safetensors"
    sgm.save(build_pipeline(size=64, channels=(32, 64)), made)
    shutil.copytree(checkpoint, tmp_path / "painter", ignore=shutil.ignore_patterns("*.safetensors"))
    return made


def paint(engine: SdxlEngine, wanted: ImageRequest) -> torch.Tensor:
    (sample,) = engine.prepare([wanted])
    while sample.steps_done < sample.total_steps:
        engine.step([sample])
    return sample.latents.clone()  # type: ignore[attr-defined]  # ours


def test_every_weight_arrives_and_the_image_is_the_folders(file: Path, checkpoint: Path) -> None:
    engines = [sdxl(file), sdxl(checkpoint)]
    for engine in engines:
        engine.warm_up()
    single, folder = (engine.registry.get(engine.models[0].id).pipeline for engine in engines)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        ours, theirs = getattr(single, name).state_dict(), getattr(folder, name).state_dict()
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            assert torch.equal(ours[key], tensor), f"{name}.{key}"
    images = [paint(engine, request(model=engine.models[0].id, negative_prompt="rain")) for engine in engines]
    assert torch.equal(*images)


async def test_it_is_served_with_the_ranges_of_its_own_configuration(file: Path) -> None:
    async with serve(sdxl(file)) as client:
        (model,) = (await client.capabilities()).models
        assert model.id == "painter"
        assert (model.width.min, model.width.default, model.num_inference_steps.default) == (64, 64, 20)
        assert len(model.revision) == 40
        reply = await client.generate(prompt="a", num_inference_steps=2)
        assert (reply.parameters.model, reply.image.file.width) == ("painter", 64)


def test_half_a_file_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"painter\.safetensors"):
        sdxl(file).warm_up()


@pytest.mark.parametrize("part", ["model.diffusion_model.middle_block", "first_stage_model.decoder", "conditioner"])
def test_one_that_lacks_weights_is_refused(file: Path, part: str) -> None:
    save_file({key: value for key, value in load_file(file).items() if not key.startswith(part)}, file)
    with pytest.raises(CheckpointError):
        sdxl(file).warm_up()


def test_without_a_configuration_and_without_the_hub_it_is_refused(file: Path) -> None:
    shutil.rmtree(file.with_suffix(""))
    with pytest.raises(CheckpointError):
        sdxl(file).warm_up()


@pytest.mark.parametrize(
    ("key", "value"), [("_class_name", "StableDiffusionPipeline"), ("unet", ["os", "UNet2DConditionModel"])]
)
def test_a_configuration_of_another_pipeline_or_library_is_refused(file: Path, key: str, value: object) -> None:
    index = file.with_suffix("") / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), key: value}))
    with pytest.raises(CheckpointError):
        checkpoints.find(ModelSource.parse("", str(file)), file.parent)
