import random
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from models.house import architecture, export, latents, train_prose, train_text, training
from models.house.architecture import Preset
from models.house.evaluate import floor, generate
from models.house.muon import orthogonal
from models.house.prose import Prose, strange_words
from models.house.source import Source
from models.house.train_prose import ProseTraining, Readers
from models.house.train_text import TextTraining
from models.house.train_unet import UnetTraining, draw_steps
from models.house.train_vae import DecoderTraining
from models.house.training import Training
from models.house.vocabulary import COLOURS, SUBJECTS
from services.generator.sdxl.prompt_chunks import repeat_tokens
from services.generator.sdxl.prompts import Prompt, PromptEncoder
from services.generator.sdxl.vae_decode import VaeDecoder
from tests.generator import tolerance

CPU = torch.device("cpu")


def unet_training(preset: Preset, source: Source, seed: int, device: torch.device) -> UnetTraining:
    torch.manual_seed(0)
    return UnetTraining(preset, source, seed, device, architecture.text_encoders(source.words))


def untrained(preset: Preset, source: Source) -> Any:
    torch.manual_seed(0)
    vae = architecture.vae()
    latents.write(vae, source.projection)
    text_encoder, text_encoder_2 = architecture.text_encoders(source.words)
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=source.words,
        tokenizer_2=source.words,
        unet=architecture.unet(preset),
        scheduler=architecture.scheduler(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def prose_training(preset: Preset, source: Source, seed: int, device: torch.device) -> ProseTraining:
    return ProseTraining(untrained(preset, source), preset, source, Prose(["abacus", "yodel"]), seed)


@pytest.fixture(params=[TextTraining, unet_training, DecoderTraining, prose_training])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestLatents:
    def test_the_encoder_is_the_projection(self, source: Source) -> None:
        vae = architecture.vae()
        latents.write(vae, source.projection)
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1

        with torch.no_grad():
            encoded = vae.encode(images).latent

        expected = source.projection.encode(images)
        assert (encoded - expected).abs().max() <= tolerance.network() * expected.abs().max()

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
        self, kind: Any, source: Source, preset: Preset, tmp_path: Path
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
        run = unet_training(preset, source, 3, CPU)
        before = run.loss(3 * training.SEEDS_APART).item()

        run.advance(1000)

        assert run.loss(3 * training.SEEDS_APART).item() < before


class TestMuon:
    def test_a_move_keeps_its_directions_and_makes_them_equally_long(self) -> None:
        generator = torch.Generator().manual_seed(0)
        matrices = torch.randn(3, 24, 60, generator=generator) * torch.logspace(0, 1, 24)[:, None]

        moved = orthogonal(matrices)

        lengths = torch.linalg.svdvals(moved)
        assert lengths.max() < 1.3
        assert lengths.min() > 0.5
        left, _, right = torch.linalg.svd(matrices, full_matrices=False)
        along = (left.mT @ moved @ right.mT).diagonal(dim1=-2, dim2=-1)
        assert along.min() > 0.5
        assert torch.equal(orthogonal(matrices.mT), moved.mT)

    def test_only_the_unet_learns_once_the_readers_can_read(
        self, source: Source, preset: Preset, tmp_path: Path
    ) -> None:
        run = TextTraining(preset, source, 3, CPU)
        run.save(tmp_path / "text.pt")
        readers = train_text.trained(tmp_path / "text.pt", source.words)
        painter = UnetTraining(preset, source, 3, CPU, readers)
        before = {name: value.clone() for name, value in painter.network.state_dict().items()}

        painter.advance(10)

        moved = {name for name, value in painter.network.state_dict().items() if not torch.equal(value, before[name])}
        assert moved
        assert all(name.startswith("unet.") for name in moved)


class TestSteps:
    def test_the_noisiest_are_drawn_most(self) -> None:
        steps = draw_steps(10_000, 1000, torch.Generator().manual_seed(0))
        assert steps.min() >= 0
        assert steps.max() == 999
        assert 0.44 < (steps >= 900).float().mean() < 0.48


class TestProse:
    WORDS = Prose(["abacus", "yodel"])

    def test_the_caption_stays_and_what_comes_around_tells_nothing(self) -> None:
        rng = random.Random(1)
        told = [self.WORDS.around("a red apple on a blue background", rng) for _ in range(400)]
        assert all("a red apple on a blue background" in text for text in told)
        assert 0.2 < told.count("a red apple on a blue background") / len(told) < 0.35
        around = {word.strip(",.;:") for text in told for word in text.replace(told[0], "").lower().split()}
        names = {name for subject in SUBJECTS for name in subject.names} | set(COLOURS)
        assert around & names <= {"apple", "red", "blue"}
        assert not any("{" in text or "  " in text for text in told)

    def test_strange_words_are_those_of_no_caption(self) -> None:
        assert strange_words(["Abacus", "red apple", "flag: yodel", "alarm clock"]) == [
            "abacus",
            "alarm",
            "clock",
            "yodel",
        ]

    def test_only_the_readers_learn_and_they_go_downhill(self, source: Source, preset: Preset, tmp_path: Path) -> None:
        run = prose_training(preset, source, 4, CPU)
        before = run.loss(4 * training.SEEDS_APART).item()
        unet = {name: value.clone() for name, value in run.unet.state_dict().items()}
        teacher = {name: value.clone() for name, value in run.teacher.state_dict().items()}

        run.advance(1000)

        assert 0 < run.loss(4 * training.SEEDS_APART).item() < before
        assert all(torch.equal(value, unet[name]) for name, value in run.unet.state_dict().items())
        assert all(torch.equal(value, teacher[name]) for name, value in run.teacher.state_dict().items())

    def test_captions_alone_are_read_as_before(self, source: Source, preset: Preset) -> None:
        run = prose_training(preset, source, 3, CPU)
        run.prose = Mock(around=lambda caption, rng: caption)
        assert run.loss(1).item() == 0

    def test_they_are_read_as_the_generator_reads(self, source: Source, preset: Preset) -> None:
        pipeline = untrained(preset, source)
        texts = ["a fox", "a fox " + "with yodel and abacus " * 12, ""]
        states, pooled = Readers(pipeline)(texts)
        for i, embedding in enumerate(PromptEncoder(pipeline, "cpu", 4).encode([Prompt(text) for text in texts])):
            torch.testing.assert_close(states[i], repeat_tokens(embedding.tokens, states.shape[1]))
            torch.testing.assert_close(pooled[i], embedding.pooled)

    def test_the_model_gets_the_averaged_readers(self, source: Source, preset: Preset, tmp_path: Path) -> None:
        export.write(untrained(preset, source).to(dtype=torch.float16), tmp_path / "weights", shard_size="1GB")
        run = prose_training(preset, source, 3, CPU)
        run.advance(10)
        run.save(tmp_path / "prose.pt")

        train_prose.write(run, tmp_path / "prose.pt", tmp_path / "weights")

        loaded = StableDiffusionXLPipeline.from_pretrained(tmp_path / "weights", dtype=torch.float16)
        average = run.average.module.text_encoder_2.text_projection.weight
        assert torch.equal(loaded.text_encoder_2.text_projection.weight, average.half())


class TestExport:
    def test_the_stock_pipeline_loads_it_and_paints(self, source: Source, preset: Preset, tmp_path: Path) -> None:
        for name, kind in (("unet.pt", unet_training), ("vae.pt", DecoderTraining)):
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
        assert VaeDecoder(pipeline.vae).preview(torch.zeros(latents.CHANNELS, 16, 16)).shape == (16, 16, 3)
        assert floor(pipeline)([]).shape[1:] == (3, 256, 256)

    def test_the_shipped_size_stays_under_thirty_megabytes(self, source: Source) -> None:
        for preset in architecture.PRESETS.values():
            parts = (architecture.unet(preset), architecture.vae(), *architecture.text_encoders(source.words))
            assert 2 * sum(parameter.numel() for part in parts for parameter in part.parameters()) < 30e6
