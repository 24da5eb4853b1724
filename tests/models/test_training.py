from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from models.house import architecture, export, latents, training
from models.house.architecture import Preset
from models.house.evaluate import floor, generate
from models.house.source import Source
from models.house.train_unet import UnetTraining
from models.house.train_vae import DecoderTraining
from models.house.training import Training
from services.generator.engines.vae import Decoder

CPU = torch.device("cpu")


@pytest.fixture(params=[UnetTraining, DecoderTraining])
def kind(request: pytest.FixtureRequest) -> type[Any]:
    chosen: type[Any] = request.param
    return chosen


class TestLatents:
    def test_the_encoder_is_the_projection(self, source: Source) -> None:
        vae = architecture.vae()
        latents.write(vae, source.projection)
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1

        with torch.no_grad():
            encoded = vae.encode(images).latent

        torch.testing.assert_close(encoded, source.projection.encode(images), atol=1e-4, rtol=1e-4)

    def test_the_untrained_decoder_is_nearly_its_inverse(self, source: Source) -> None:
        vae = architecture.vae()
        latents.write(vae, source.projection)
        plain = torch.tensor([0.8, -0.5, 0.1]).view(1, 3, 1, 1).expand(1, 3, 64, 64)

        with torch.no_grad():
            decoded = vae.decode(source.projection.encode(plain)).sample
            cells = torch.nn.functional.conv2d(
                source.projection.encode(plain), torch.linalg.pinv(source.projection.matrix)[:, :, None, None]
            ) + source.projection.mean.view(1, -1, 1, 1)
        blocks = torch.nn.functional.interpolate(torch.pixel_shuffle(cells, 4), scale_factor=4.0)

        assert (decoded - blocks).abs().max() < 0.1


class TestResuming:
    def test_a_stopped_run_ends_as_one_that_went_through(
        self, kind: type[Any], source: Source, preset: Preset, tmp_path: Path
    ) -> None:
        through: Training = kind(preset, source, 3, CPU)
        losses = [through.advance(4) for _ in range(4)]
        stopped: Training = kind(preset, source, 3, CPU)
        assert [stopped.advance(4) for _ in range(2)] == losses[:2]
        stopped.save(tmp_path / "state.pt")

        resumed: Training = kind(preset, source, 8, CPU)
        resumed.seed = 3
        resumed.load(tmp_path / "state.pt")

        assert [resumed.advance(4) for _ in range(2)] == losses[2:]
        for one, other in zip(through.average.parameters(), resumed.average.parameters(), strict=True):
            assert torch.equal(one, other)

    def test_a_run_out_of_time_saves_and_stops(self, source: Source, preset: Preset, tmp_path: Path) -> None:
        run = DecoderTraining(preset, source, 3, CPU)

        training.run(run, 50, tmp_path / "vae.pt", seconds=0)

        assert run.step == 1
        assert torch.load(tmp_path / "vae.pt")["step"] == 1

    def test_a_step_of_the_unet_goes_downhill(self, source: Source, preset: Preset) -> None:
        run = UnetTraining(preset, source, 3, CPU)
        before = run.loss(3 * training.SEEDS_APART).item()

        run.advance(1000)

        assert run.loss(3 * training.SEEDS_APART).item() < before


class TestExport:
    def test_the_stock_pipeline_loads_it_and_paints(self, source: Source, preset: Preset, tmp_path: Path) -> None:
        for name, kind in (("unet.pt", UnetTraining), ("vae.pt", DecoderTraining)):
            run = kind(preset, source, 3, CPU)
            run.advance(10)
            run.save(tmp_path / name)

        export.write(export.assemble(tmp_path, preset, source), tmp_path / "weights", shard_size="1GB")

        pipeline = StableDiffusionXLPipeline.from_pretrained(
            tmp_path / "weights", dtype=torch.float32, add_watermarker=False
        )
        pipeline.set_progress_bar_config(disable=True)
        first, again, other = (generate(pipeline, ["a fox"], [seed], steps=2, guidance=2.0) for seed in (1, 1, 2))
        assert first.shape == (1, 3, 256, 256)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert Decoder(pipeline.vae).preview(torch.zeros(latents.CHANNELS, 16, 16)).shape == (16, 16, 3)
        assert floor(pipeline)([]).shape[1:] == (3, 256, 256)

    def test_the_shipped_size_stays_under_thirty_megabytes(self, source: Source) -> None:
        for preset in architecture.PRESETS.values():
            parts = (architecture.unet(preset), architecture.vae(), *architecture.text_encoders(source.words))
            assert 2 * sum(parameter.numel() for part in parts for parameter in part.parameters()) < 30e6
