"""Which layers use fp8: the choice by time, with a scripted clock."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from services.generator.sdxl.fp8 import choice
from services.generator.sdxl.fp8.choice import Shape, Verdict
from services.generator.sdxl.fp8.layers import Float8Conv2d, Float8Linear, Float8PointwiseConv2d
from services.generator.sdxl.fp8.tiles import TILES
from services.generator.sdxl.loading.tiny import build_pipeline

pytestmark = pytest.mark.fp8

LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
SAME = "mid_block.attentions.0.transformer_blocks.0.attn1.to_k"
CONV = "mid_block.resnets.0.conv1"
POINTWISE = "up_blocks.1.resnets.0.conv_shortcut"
SHAPES = {LINEAR: (16, 64), SAME: (16, 64), CONV: (64, 4, 4), POINTWISE: (96, 8, 8)}


@pytest.fixture
def unet() -> Any:
    with torch.no_grad():
        yield build_pipeline(size=64, channels=(32, 64)).unet.requires_grad_(False)


def shape(unet: nn.Module, name: str) -> Shape:
    layer = unet.get_submodule(name)
    x = torch.zeros(1, *SHAPES[name])
    with choice.watch({name: layer}) as shapes:
        layer(x)
    return shapes[name]


class Clock:
    """Runs the work it is given once, as a real one does, and answers the next of the times it was made with."""

    def __init__(self, *seconds: float) -> None:
        self.seconds: Iterator[float] = iter(seconds)
        self.rows: list[int] = []

    def __call__(self, work: Callable[[], Any]) -> float:
        self.rows.append(len(work()))
        return next(self.seconds)

    @property
    def used_up(self) -> bool:
        return next(self.seconds, None) is None


def quantize(unet: Any, clock: Clock | None, *names: str, verdicts: Any = None) -> choice.Summary:
    wanted = {name: shape(unet, name) for name in names}
    return choice.quantize(unet, wanted, 6, clock, {} if verdicts is None else verdicts)


def test_linear_means_linear_and_all_means_all_but_the_sensitive(unet: Any) -> None:
    linear, everything = choice.eligible(unet, "linear"), choice.eligible(unet, "all")
    assert linear.keys() < everything.keys()
    assert {type(layer) for layer in linear.values()} == {nn.Linear}
    assert {type(layer) for layer in everything.values()} == {nn.Linear, nn.Conv2d}
    assert set(SHAPES) <= everything.keys()
    left = {
        name
        for name, layer in unet.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and name not in everything
    }
    assert {"conv_in", "conv_out", "time_embedding.linear_1", "add_embedding.linear_2"} <= left
    assert "mid_block.resnets.0.time_emb_proj" in left
    assert {f"up_blocks.1.resnets.1.{part}" for part in ("conv1", "conv2", "conv_shortcut")} <= left
    assert all("emb" in name or name.startswith(("conv_", "up_blocks.1.resnets.1.")) for name in left)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(24, 32),
        nn.Linear(32, 24),
        nn.Conv2d(32, 32, 3, padding=1, groups=2),
        nn.Conv2d(32, 32, 3, padding=2, dilation=2),
        nn.Conv2d(32, 32, 5, padding=2),
        nn.Conv2d(32, 32, 3),
        nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(24, 32, 3, padding=1),
    ],
)
def test_a_layer_without_a_kernel_stays(unet: Any, layer: nn.Module) -> None:
    unet.set_submodule("mid_block.resnets.0.conv1", layer)
    assert "mid_block.resnets.0.conv1" not in choice.eligible(unet, "all")


def test_layers_that_are_never_called_stay(unet: Any) -> None:
    layers = {name: unet.get_submodule(name) for name in (LINEAR, SAME)}
    with choice.watch(layers) as shapes:
        layers[LINEAR](torch.zeros(3, 16, 64))
    assert shapes == {LINEAR: shape(unet, LINEAR)}
    assert shapes[LINEAR].x == (16, 64)
    assert not layers[LINEAR]._forward_pre_hooks


def test_without_a_clock_all_are_kept(unet: Any) -> None:
    assert quantize(unet, None, *SHAPES) == choice.Summary(4, 0, None)
    kinds = [type(unet.get_submodule(name)) for name in SHAPES]
    assert kinds == [Float8Linear, Float8Linear, Float8Conv2d, Float8PointwiseConv2d]


def test_only_what_is_faster_is_kept(unet: Any) -> None:
    clock = Clock(1.0, 0.5, 1.0, 1.2, 1.1, 1.3, 1.1, 1.2, 2.0, 1.5)
    summary = quantize(unet, clock, LINEAR, CONV, POINTWISE)
    assert clock.used_up
    assert set(clock.rows) == {6}
    assert summary == choice.Summary(2, 1, pytest.approx(1.0))
    assert isinstance(unet.get_submodule(LINEAR), Float8Linear)
    assert isinstance(unet.get_submodule(CONV), nn.Conv2d)
    assert isinstance(unet.get_submodule(POINTWISE), Float8PointwiseConv2d)


def test_a_gain_within_the_noise_is_not_worth_it(unet: Any) -> None:
    assert quantize(unet, Clock(1.0, 0.98), LINEAR) == choice.Summary(0, 1, 0.0)


def test_the_fastest_tile_is_taken(unet: Any) -> None:
    quantize(unet, Clock(1.0, 0.9, 0.7, 0.6, 0.8, 0.9), CONV)
    assert unet.get_submodule(CONV).tile == TILES[2]


def test_a_shape_is_timed_once(unet: Any) -> None:
    verdicts: dict[Shape, Verdict] = {}
    assert quantize(unet, Clock(1.0, 0.5), LINEAR, SAME, verdicts=verdicts).kept == 2
    other = build_pipeline(size=64, channels=(32, 64), seed=1).unet
    assert quantize(other, Clock(), LINEAR, verdicts=verdicts).kept == 1
    assert verdicts == {shape(build_pipeline(size=64, channels=(32, 64)).unet, LINEAR): Verdict(1.0, 0.5)}


def test_a_tile_that_fails_or_computes_something_else_is_not_used(
    unet: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forward = Float8Conv2d.forward

    def odd(self: Float8Conv2d, x: torch.Tensor) -> torch.Tensor:
        if self.tile == TILES[0]:
            raise RuntimeError("out of resources: shared memory")
        return forward(self, x) * (2 if self.tile == TILES[1] else 1)

    monkeypatch.setattr(Float8Conv2d, "forward", odd)
    quantize(unet, Clock(1.0, 0.7, 0.6, 0.9), CONV)
    assert unet.get_submodule(CONV).tile == TILES[3]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["left out"] * 2


def test_a_layer_without_any_good_kernel_stays(unet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Float8Linear, "forward", lambda self, x: torch.zeros(*x.shape[:-1], 64))
    assert quantize(unet, Clock(1.0), LINEAR) == choice.Summary(0, 1, 0.0)
