"""Schedulers by name: for each a diffusers class, and changes to the configuration of the checkpoint."""

import inspect
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import torch

from services.generator.sdxl import samplers

_SHARED_SCHEDULERS = 64

# A scheduler must unset what another sets: the configuration of the checkpoint may have any of these options.
_PLAIN: dict[str, Any] = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
}
_KARRAS = {**_PLAIN, "use_karras_sigmas": True}
_SOLVER = {"algorithm_type": "dpmsolver++", "solver_order": 2, "thresholding": False}
_SDE = {**_SOLVER, "algorithm_type": "sde-dpmsolver++"}


@dataclass(frozen=True)
class _Recipe:
    class_name: str
    overrides: dict[str, Any]


_RECIPES: dict[str, _Recipe] = {
    "euler": _Recipe("EulerDiscreteScheduler", _PLAIN),
    "euler_karras": _Recipe("EulerDiscreteScheduler", _KARRAS),
    "euler_ancestral": _Recipe("EulerAncestralDiscreteScheduler", {}),
    "dpmpp_2m": _Recipe("DPMSolverMultistepScheduler", {**_PLAIN, **_SOLVER}),
    "dpmpp_2m_karras": _Recipe("DPMSolverMultistepScheduler", {**_KARRAS, **_SOLVER}),
    "dpmpp_2m_sde": _Recipe("DPMSolverMultistepScheduler", {**_PLAIN, **_SDE}),
    "dpmpp_2m_sde_karras": _Recipe("DPMSolverMultistepScheduler", {**_KARRAS, **_SDE}),
    # Clipping is for models of pixels; latents are not limited to ±1.
    "ddim": _Recipe("DDIMScheduler", {"clip_sample": False, "thresholding": False}),
    "lcm": _Recipe("LCMScheduler", {"clip_sample": False, "thresholding": False}),
    "unipc": _Recipe("UniPCMultistepScheduler", _PLAIN),
    "deis": _Recipe("DEISMultistepScheduler", _PLAIN),
    "heun": _Recipe("HeunDiscreteScheduler", {**_PLAIN, "clip_sample": False}),
    "pndm": _Recipe("PNDMScheduler", {"skip_prk_steps": True}),
}

NAMES = tuple(_RECIPES)


def make_scheduler(name: str, config: Any) -> Any:
    """A new diffusers scheduler, for a checkpoint with that scheduler configuration."""
    recipe = _RECIPES[name]
    cls = getattr(diffusers, recipe.class_name)
    known = inspect.signature(cls.__init__).parameters
    overrides = {key: value for key, value in recipe.overrides.items() if key in known}
    return cls.from_config(config, **overrides)


class SchedulerCache:
    """The schedulers of one checkpoint with their timesteps set. Shareable ones are cached. Not thread-safe."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """For a checkpoint with that scheduler configuration."""
        self._config = config
        self._shared: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def get(self, name: str, steps: int) -> Any:
        """A diffusers scheduler of that name with its timesteps set.

        A scheduler that becomes a table is only read, so it is shared, its begin index included. A scheduler that does
        its own steps has a state, and is new for each image.
        """
        key = name, steps
        if key in self._shared:
            self._shared.move_to_end(key)
            return self._shared[key]
        scheduler = make_scheduler(name, self._config)
        scheduler.set_timesteps(steps)
        if samplers.tabulate(scheduler) is not None:
            self._shared[key] = scheduler
            if len(self._shared) > _SHARED_SCHEDULERS:
                self._shared.popitem(last=False)
        return scheduler


def noise_level(scheduler: Any, step: int) -> tuple[float, float]:
    """The shares of the image and of the noise in the latents before that step.

    diffusers computes them, so that every spacing and rescaling has the same meaning. Sets the begin index of the
    scheduler to that step.
    """
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(step)
    timestep, one, zero = scheduler.timesteps[step : step + 1], torch.ones(1), torch.zeros(1)
    return float(scheduler.add_noise(one, zero, timestep)), float(scheduler.add_noise(zero, one, timestep))


def name_of(config: Mapping[str, Any]) -> str:
    """The name of the scheduler in a scheduler_config.json; "euler" for an unsupported class."""
    distinguishing = {"use_karras_sigmas": False, "algorithm_type": "dpmsolver++"}
    for name, recipe in _RECIPES.items():
        if recipe.class_name == config.get("_class_name") and all(
            config.get(key, usual) == recipe.overrides.get(key, usual) for key, usual in distinguishing.items()
        ):
            return name
    return "euler"
