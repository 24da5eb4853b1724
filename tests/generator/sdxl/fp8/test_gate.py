"""The gate before fp8: it lets pass what a trained model stands, and refuses what has become of a broken one."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from services.generator.__main__ import HOUSE_MODEL
from services.generator.engine import CheckpointError
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.fp8 import choice, gate
from services.generator.sdxl.fp8.layers import Float8Conv2d, Float8Linear
from services.generator.sdxl.fp8.quantizer import Quantizer, cannot, make_quantizer
from services.generator.sdxl.loaded_model import LoadedModel
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.options import SdxlOptions
from services.generator.settings import GeneratorSettings
from tests.generator import tolerance
from tests.generator.harness import cpu_options, request, sdxl

pytestmark = pytest.mark.fp8


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Four noise levels and two images instead of ten and four: a gate costs a second then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "STEPS", 4)
        patch.setattr(gate, "IMAGES", 2)
        yield


def load(folder: Path = HOUSE_MODEL, **options: Any) -> SdxlEngine:
    """An engine that has found its models; they are loaded, and quantised, when they are first wanted."""
    engine = sdxl(folder, fp8_on_cpu=True, **options)
    engine.registry.find()
    return engine


@pytest.fixture(scope="module")
def house(short: None) -> LoadedModel:
    return load().registry.get("weights")


@pytest.fixture(scope="module")
def recording(house: LoadedModel) -> gate.Recording:
    return gate.record(house, load().models[0], is_refiner=False)


def kinds(model: LoadedModel) -> set[type]:
    return {type(module) for module in model.unet.module.modules()} & {Float8Linear, Float8Conv2d}


def paint(engine: SdxlEngine) -> np.ndarray[Any, np.dtype[np.float64]]:
    wanted = request(model="weights", prompt="a fox on a yellow background", width=256, height=256, guidance_scale=1.5)
    samples = engine.prepare([wanted])
    while samples[0].steps_done < samples[0].total_steps:
        engine.step(samples)
    (image,) = engine.decode(samples)
    return np.asarray(image, np.float64)


def test_the_house_model_stands_it(caplog: pytest.LogCaptureFixture) -> None:
    pictures, differences = {}, {}
    for mode in ("off", "linear", "all"):
        with caplog.at_level(logging.INFO):
            engine = load(fp8=mode)
            pictures[mode] = paint(engine)
        differences[mode] = engine.models[0].fp8_difference
        assert bool(kinds(engine.registry.get("weights"))) == (mode != "off")
    assert differences["off"] is None
    assert 0.002 < differences["linear"] < 0.5 * differences["all"] < 0.5 * SdxlOptions().fp8_tolerance
    errors = {mode: ((pictures[mode] - pictures["off"]) ** 2).mean() for mode in ("linear", "all")}
    assert 0 < errors["linear"] < errors["all"] < 255**2 * 10**-2.5, "the picture itself stays within 25 dB"
    (linear, everything) = (record for record in caplog.records if record.getMessage() == "UNet quantised to fp8")
    assert (linear.layers, everything.layers) == (48, 90)
    assert len(linear.error_percent) == gate.STEPS


def test_nothing_changed_is_no_difference(house: LoadedModel, recording: gate.Recording) -> None:
    quality = gate.compare(recording, house.unet)
    assert [(level.plain, level.guided) for level in quality.levels] == [(0, 0)] * gate.STEPS
    timesteps = [level.timestep for level in quality.levels]
    assert timesteps == sorted(timesteps, reverse=True)
    assert timesteps[0] > 900
    assert timesteps[-1] < 300


def test_the_difference_is_that_of_the_worst_image_and_grows_with_guidance(
    house: LoadedModel, recording: gate.Recording
) -> None:
    def off(*inputs: Any) -> torch.Tensor:
        out = house.unet(*inputs).clone()
        out[1] *= 1.5  # one image, with its prompt
        return out

    for level in gate.compare(recording, off).levels:
        assert level.plain == pytest.approx(0.5, rel=1e-3)
        assert level.guided > 0.5


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_is_worse_than_anything(house: LoadedModel, recording: gate.Recording, wrong: float) -> None:
    def off(*inputs: Any) -> torch.Tensor:
        out = house.unet(*inputs).clone()
        if inputs[1][0] < 500:
            out[0, 0, 0, 0] = wrong
        return out

    assert not gate.compare(recording, off).worst.guided <= 1e9


def refusal(**options: Any) -> str:
    with pytest.raises(CheckpointError) as refused:
        load(**options).registry.get("weights")
    return str(refused.value)


def test_a_refusal_says_what_was_measured_the_limit_and_the_setting() -> None:
    said = refusal(fp8="all", fp8_tolerance=0.001)
    assert "weights does not tolerate GENERATOR_FP8=all: at timestep" in said
    assert "GENERATOR_FP8_TOLERANCE allows 0.1 %; set GENERATOR_FP8=linear or off" in said


def double(layer: Any) -> None:
    layer.weight_scale.mul_(2)


def scramble(layer: Any) -> None:
    layer.weight.copy_(layer.weight[torch.randperm(len(layer.weight), generator=torch.manual_seed(1))])


def transpose_taps(layer: Any) -> None:
    if isinstance(layer, Float8Conv2d):
        layer.weight.copy_(layer.weight.transpose(2, 3).clone())


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (double, "weight"),
        (transpose_taps, "weight"),
        (scramble, "up_blocks.3.resnets.0.conv2"),
        (scramble, "up_blocks.1.attentions.1.proj_out"),
        (double, "up_blocks.2.upsamplers.0.conv"),
    ],
)
def test_broken_quantisation_is_refused(monkeypatch: pytest.MonkeyPatch, damage: Any, part: str) -> None:
    quantize = choice.quantize

    def broken(unet: Any, *arguments: Any) -> choice.Summary:
        summary = quantize(unet, *arguments)
        for name, layer in unet.named_modules():
            if isinstance(layer, Float8Linear | Float8Conv2d) and (part == "weight" or part == name):
                damage(layer)
        return summary

    monkeypatch.setattr(choice, "quantize", broken)
    assert "does not tolerate" in refusal(fp8="all")


@pytest.fixture
def outliers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The house model with a channel before each feed-forward layer a million times as large, and the weights behind
    it as much smaller: the very same function, in powers of two, but fp8 sees nothing beside that channel."""
    record = gate.record

    def stretched(model: LoadedModel, *arguments: Any, **options: Any) -> gate.Recording:
        before = record(model, *arguments, **options)
        with torch.no_grad():
            for module in model.unet.module.modules():
                if type(module).__name__ == "BasicTransformerBlock":
                    module.norm3.weight[0] *= 2**20
                    module.norm3.bias[0] *= 2**20
                    module.ff.net[0].proj.weight[:, 0] *= 2**-20
        # The same function, computed in another order; guidance multiplies the error.
        assert gate.compare(before, model.unet).worst.guided <= 5 * tolerance.network()
        return before

    monkeypatch.setattr(gate, "record", stretched)


@pytest.mark.usefixtures("outliers")
def test_a_model_whose_activations_do_not_fit_is_refused() -> None:
    assert "does not tolerate GENERATOR_FP8=linear" in refusal(fp8="linear")


def test_every_model_is_put_to_it(checkpoint: Path, refiner: Path) -> None:
    """The random weights of `tiny` are refused by default, as guidance multiplies what they make of any error."""
    sources = [ModelSource("house", str(HOUSE_MODEL)), ModelSource("tiny", str(checkpoint))]
    strict = SdxlEngine(sources, cpu_options(Path("unused"), fp8="linear"), fp8_on_cpu=True)
    strict.registry.find()
    assert kinds(strict.registry.get("house")) == {Float8Linear}
    with pytest.raises(CheckpointError, match="tiny does not tolerate"):
        strict.registry.get("tiny")
    lenient = load(checkpoint, refiner=str(refiner), fp8="all", fp8_tolerance=1.0)
    assert kinds(lenient.registry.get("tiny-refiner")) == {Float8Linear, Float8Conv2d}
    assert [model.fp8_difference for model in lenient.models] == [None], "not loaded yet"
    whole, model = lenient.registry.get("tiny"), lenient.models[0]
    assert 0 < model.fp8_difference < 1
    plain = load(checkpoint).registry.get("tiny")
    assert whole.size_bytes < plain.size_bytes


def test_a_refiner_is_tried_at_the_noise_levels_it_knows(checkpoint: Path, refiner: Path) -> None:
    engine = load(checkpoint, refiner=str(refiner))
    model = engine.registry.get("tiny-refiner")
    recording = gate.record(model, engine.models[0], is_refiner=True)
    timesteps = [float(step.inputs[1][0]) for step in recording.steps]
    assert 3 <= len(timesteps) <= gate.STEPS
    assert max(timesteps) < 350


def test_a_model_without_numbers_is_told_apart(house: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    call = type(house.unet).__call__
    monkeypatch.setattr(type(house.unet), "__call__", lambda self, *inputs: call(self, *inputs) * float("nan"))
    with pytest.raises(CheckpointError, match="not finite, before any fp8"):
        gate.record(house, load().models[0], is_refiner=False)


class TestWhere:
    def test_the_cpu_is_refused(self, checkpoint: Path) -> None:
        with pytest.raises(
            CheckpointError, match="GENERATOR_FP8=linear needs a CUDA device, and the model is on the CPU"
        ):
            sdxl(checkpoint, fp8="linear")

    @pytest.mark.parametrize(
        ("capability", "dtype", "has", "said"),
        [
            ((9, 0), torch.bfloat16, {}, ""),
            ((8, 9), torch.bfloat16, {}, ""),
            ((12, 0), torch.bfloat16, {}, ""),
            ((8, 6), torch.bfloat16, {}, "8.9 or more, and this one has 8.6"),
            ((9, 0), torch.float16, {}, "GENERATOR_DTYPE=bfloat16, not float16"),
            ((9, 0), torch.bfloat16, {"has_triton": False}, "triton"),
            ((9, 0), torch.bfloat16, {"has_compiler": False}, "gcc or clang"),
        ],
    )
    def test_devices(self, capability: tuple[int, int], dtype: torch.dtype, has: Any, said: str) -> None:
        reason = cannot(capability, dtype, **has)
        assert said in reason
        assert bool(reason) == bool(said)

    def test_off_needs_nothing(self) -> None:
        assert make_quantizer(SdxlOptions(), device="cpu", dtype=torch.float32) is None
        made = make_quantizer(SdxlOptions(fp8="all"), device="cpu", dtype=torch.float32, on_cpu=True)
        assert isinstance(made, Quantizer)

    def test_settings(self, tmp_path: Path) -> None:
        assert GeneratorSettings().fp8 == "off"
        wanted = GeneratorSettings(fp8="all", fp8_tolerance=0.2)
        assert (wanted.fp8, wanted.fp8_tolerance) == ("all", 0.2)
        with pytest.raises(ValidationError, match="GENERATOR_FP8"):
            GeneratorSettings(fp8="linear", loras_dir=tmp_path)
        with pytest.raises(ValidationError, match="fp8"):
            GeneratorSettings(fp8="true")
        for wrong in (0, 1.5):
            with pytest.raises(ValidationError, match="fp8_tolerance"):
                GeneratorSettings(fp8_tolerance=wrong)
