"""Previews by a tiny decoder in place of the projection."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from safetensors.torch import load_file, save_file

from services.generator.engine import CheckpointError
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.loading.tiny import make_checkpoint
from services.generator.sdxl.options import SdxlOptions
from services.generator.settings import GeneratorSettings
from tests.generator.harness import cpu_options, request, sdxl, serve


def build(**options: Any) -> AutoencoderTiny:
    """Random weights, and few of them."""
    torch.manual_seed(3)
    few = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    return AutoencoderTiny(**{**few, "num_decoder_blocks": (1, 1, 1, 1), "num_encoder_blocks": (1, 1, 1, 1), **options})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build().save_pretrained(tmp_path / "taesdxl")
    return tmp_path / "taesdxl"


def preview(engine: SdxlEngine, **changes: Any) -> np.ndarray[Any, Any]:
    (sample,) = engine.prepare([request(**changes)])
    engine.step([sample])
    return engine.preview(sample)


class TestUsed:
    def test_it_shows_what_the_decoder_makes_of_the_clean_latents(self, checkpoint: Path, folder: Path) -> None:
        engine = sdxl(checkpoint, preview_decoder=folder)
        engine.warm_up()
        (sample,) = engine.prepare([request()])
        engine.step([sample])
        shown = engine.preview(sample)
        with torch.no_grad():
            made = AutoencoderTiny.from_pretrained(folder).decode(sample.clean[None]).sample  # type: ignore[attr-defined]
        expected = (made[0] / 2 + 0.5).clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()
        assert shown.shape == (64, 64, 3)
        assert np.abs(shown - expected).max() <= 1

    def test_a_large_one_is_made_smaller_in_proportion(self, checkpoint: Path, folder: Path) -> None:
        engine = sdxl(checkpoint, preview_decoder=folder)
        engine.warm_up()
        assert preview(engine, width=512, height=320).shape == (160, 256, 3)
        assert preview(engine, width=520, height=64).shape == (21, 173, 3)

    @pytest.mark.parametrize("keep_config", [True, False])
    def test_a_single_file(self, checkpoint: Path, tmp_path: Path, keep_config: bool) -> None:
        """Without a config.json beside it, it is taken for what TAESD is, with its own number of channels."""
        build(**({} if keep_config else FULL)).save_pretrained(tmp_path / "taesdxl")
        weights = tmp_path / "taesdxl" / "diffusion_pytorch_model.safetensors"
        whole = sdxl(checkpoint, preview_decoder=weights.parent)
        whole.warm_up()
        if not keep_config:
            (weights.parent / "config.json").unlink()
        engine = sdxl(checkpoint, preview_decoder=weights)
        engine.warm_up()
        assert np.array_equal(preview(engine), preview(whole))

    def test_images_are_the_same_with_and_without(self, checkpoint: Path, folder: Path, engine: SdxlEngine) -> None:
        other = sdxl(checkpoint, preview_decoder=folder)
        other.warm_up()
        images = []
        for some in (engine, other):
            (sample,) = some.prepare([request()])
            while sample.steps_done < sample.total_steps:
                some.step([sample])
                some.preview(sample)
            images.append(some.decode([sample])[0])
        assert np.array_equal(*images)

    def test_models_with_other_latents_keep_the_projection(self, tmp_path: Path, folder: Path) -> None:
        from services.generator.__main__ import HOUSE_MODEL

        make_checkpoint(tmp_path / "tiny", size=64)
        sources = [ModelSource("tiny", str(tmp_path / "tiny")), ModelSource("house", str(HOUSE_MODEL))]
        options = cpu_options(tmp_path, max_batch=1, preview_decoder=folder)
        engine = SdxlEngine(sources, options)
        engine.warm_up()
        assert preview(engine).shape == (64, 64, 3)
        assert preview(engine, model="house", width=256, height=256).shape == (16, 16, 3)

    async def test_through_the_service_large_ones_are_jpegs(self, checkpoint: Path, folder: Path) -> None:
        async with serve(sdxl(checkpoint, preview_decoder=folder)) as client:
            reply = await client.generate(
                prompt="a", width=256, height=256, num_inference_steps=30, preview_interval=1, seed=1
            )
            first = reply.all("preview")[0]
            assert (first.content_type, first.width, first.height) == ("image/jpeg", 256, 256)
            picture = Image.open(io.BytesIO(first.data))
            assert (picture.format, picture.size) == ("JPEG", (256, 256))
            small = await client.generate(prompt="a", num_inference_steps=30, preview_interval=1, seed=1)
            assert small.all("preview")[0].content_type == "image/png"


FULL = {
    "encoder_block_out_channels": (64,) * 4,
    "decoder_block_out_channels": (64,) * 4,
    "num_encoder_blocks": (1, 3, 3, 3),
    "num_decoder_blocks": (3, 3, 3, 1),
}


class TestRefused:
    def refused(self, checkpoint: Path, path: Path, why: str) -> None:
        with pytest.raises(CheckpointError, match=why) as caught:
            sdxl(checkpoint, preview_decoder=path).warm_up()
        assert "GENERATOR_PREVIEW_DECODER" in str(caught.value)

    def test_other_latents(self, checkpoint: Path, tmp_path: Path) -> None:
        build(latent_channels=16).save_pretrained(tmp_path / "taef1")
        self.refused(checkpoint, tmp_path / "taef1", "latents of 16 channels; those of tiny have 4")

    def test_nothing_there(self, checkpoint: Path, tmp_path: Path) -> None:
        self.refused(checkpoint, tmp_path / "nowhere", "neither a folder nor")

    def test_a_pickle(self, checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / "taesdxl.pth").write_bytes(b"x")
        self.refused(checkpoint, tmp_path / "taesdxl.pth", "safetensors")

    def test_another_vae(self, checkpoint: Path) -> None:
        self.refused(checkpoint, checkpoint / "vae", "AutoencoderTiny is needed, not 'AutoencoderKL'")

    def test_a_file_of_something_else(self, checkpoint: Path) -> None:
        self.refused(checkpoint, checkpoint / "unet" / "diffusion_pytorch_model.safetensors", "no AutoencoderTiny")

    def test_weights_that_are_broken_or_not_all_there(self, checkpoint: Path, folder: Path) -> None:
        file = folder / "diffusion_pytorch_model.safetensors"
        weights = load_file(file)
        del weights["decoder.layers.2.conv.0.weight"]
        save_file(weights, file, metadata={"format": "pt"})
        self.refused(checkpoint, folder, "decoder.layers.2.conv.0.weight")
        self.refused(checkpoint, file, "decoder.layers.2.conv.0.weight")
        file.write_bytes(file.read_bytes()[:1000])
        self.refused(checkpoint, folder, "taesdxl")
        self.refused(checkpoint, file, "taesdxl")


def test_the_setting_reaches_the_engine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    assert GeneratorSettings().preview_decoder is None
    monkeypatch.setenv("GENERATOR_PREVIEW_DECODER", str(folder))
    settings = GeneratorSettings()
    assert isinstance(settings, SdxlOptions)
    assert settings.preview_decoder == folder
