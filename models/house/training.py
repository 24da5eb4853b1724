"""A training run that stops and resumes at any step: optimiser, running average, rate, checkpoint and log."""

from __future__ import annotations

import argparse
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.house.architecture import PRESETS, Preset
from models.house.source import Source, prepare

WARM_UP, COOL_DOWN = 100, 0.3
_LONGEST_AVERAGE = 0.999
_LOG_EVERY, _SAVE_EVERY = 25, 100
SEEDS_APART = 1_000_003

_Tensors = tuple[Tensor, ...] | list[Tensor]


class Training(ABC):
    """The state of one run; subclasses say what the loss is. A step depends on the seed and its number alone."""

    def __init__(self, network: nn.Module, optimisers: Sequence[torch.optim.Optimizer], seed: int) -> None:
        """Each optimiser's rate is its highest, after the warm-up and before the cool-down."""
        self.network, self.optimisers, self.seed, self.step = network, optimisers, seed, 0
        self.rates = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
        self.average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=_follow)

    @abstractmethod
    def loss(self, seed: int) -> Tensor:
        """The loss on the batch of this seed."""

    def advance(self, steps: int) -> float:
        """Do one step of `steps` in all, which the rate depends on; return the loss."""
        share = min((self.step + 1) / WARM_UP, (steps - self.step) / (COOL_DOWN * steps), 1.0)
        for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * share
        loss = self.loss(self.seed * SEEDS_APART + self.step)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.average.update_parameters(self.network)
        self.step += 1
        return loss.item()

    def save(self, path: Path) -> None:
        """Write everything needed to go on, in one move."""
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(path, map_location="cpu")
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimiser, stored in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(stored)


def adam(parameters: Iterable[Tensor], rate: float) -> torch.optim.Optimizer:
    """Adam as all trainings use it."""
    return torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01)


def load_average(network: nn.Module, checkpoint: Path) -> None:
    """Give `network` the averaged weights of a checkpoint."""
    state = torch.load(checkpoint, map_location="cpu")["average"]
    network.load_state_dict({key.removeprefix("module."): v for key, v in state.items() if key != "n_averaged"})


def run(training: Training, steps: int, checkpoint: Path, seconds: float) -> None:
    """Go on to `steps`, or until `seconds` have passed; log beside the checkpoint, in a file of its name."""
    if checkpoint.exists():
        training.load(checkpoint)
    began, losses = time.monotonic(), list[float]()
    for _ in range(training.step, steps):
        losses.append(training.advance(steps))
        elapsed = time.monotonic() - began
        if training.step % _LOG_EVERY == 0:
            loss = sum(losses) / len(losses)
            with checkpoint.with_suffix(".jsonl").open("a") as log:
                log.write(json.dumps({"step": training.step, "loss": round(loss, 5), "seconds": round(elapsed)}) + "\n")
            losses.clear()
        if training.step % _SAVE_EVERY == 0 or training.step == steps or elapsed > seconds:
            training.save(checkpoint)
        if elapsed > seconds:
            return


def main(
    description: str | None,
    checkpoint: str,
    steps_of: Callable[[Preset], int],
    make: Callable[[Options, Source], Training],
) -> None:
    """Read the command line, prepare the data, and train what `make` makes in the file `checkpoint`."""
    options = Options.read(description)
    source = prepare(options.work, options.preset.repertoire, options.seed, options.device)
    steps = steps_of(options.preset) if options.steps is None else options.steps
    run(make(options, source), steps, options.work / checkpoint, options.seconds)


@dataclass(frozen=True)
class Options:
    """The command line of all trainings."""

    work: Path
    preset: Preset
    steps: int | None
    seconds: float
    seed: int
    device: torch.device

    @classmethod
    def read(cls, description: str | None) -> Options:
        """Read the command line."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--work", type=Path, default=Path("var/house"), help="checkpoints, sprites and the log")
        parser.add_argument("--preset", choices=PRESETS, default="cpu")
        parser.add_argument("--steps", type=int, help="the last step; 0 only prepares the data; default: the preset's")
        parser.add_argument("--minutes", type=float, default=float("inf"), help="save and stop after so long")
        parser.add_argument("--seed", type=int, default=7)
        parser.add_argument("--threads", type=int, help="CPU threads; default: all cores")
        given = parser.parse_args()
        if given.threads:
            torch.set_num_threads(given.threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(given.work, PRESETS[given.preset], given.steps, given.minutes * 60, given.seed, device)


def autocast(device: torch.device) -> torch.autocast:
    """Half precision where it is faster: on a GPU. These CPUs were measured slower with it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _follow(averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
    """Average over about the last tenth of the run so far, and never over more than the last thousand steps."""
    keep = min(_LONGEST_AVERAGE, (1 + int(count)) / (10 + int(count)))
    for mean, now in zip(averaged, current, strict=True):
        mean.lerp_(now, 1 - keep)
