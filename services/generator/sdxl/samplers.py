"""Schedulers as tables of numbers, so that the images of a batch can have different schedulers.

Euler (Karras et al. 2022, arXiv:2206.00364), DDIM (arXiv:2010.02502), DPM-Solver++(2M) (arXiv:2211.01095), LCM
(arXiv:2310.04378) and their stochastic variants are linear. A step is

    m  = p·x + q·out                 the prediction of the clean image; `out` is the (guided) output of the UNet
    x' = a·x + b·m + c·m' + s·z      m' is m of the step before, z is new noise

where the UNet gets `scale·x` at `timestep`: eight numbers per step. The noise levels come from the diffusers scheduler,
so every spacing, Karras option and prediction type has the same meaning as there.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

SCALE, TIMESTEP, P, Q, A, B, C, S = range(8)
COLUMNS = 8


@dataclass(frozen=True)
class Table:
    """The steps of one image.

    `rows` is (steps, COLUMNS) float32 on the CPU. `draws` says for each step whether noise is drawn: also where `s` is
    0, so that the random generator is in the same state as with the diffusers scheduler.
    """

    rows: torch.Tensor
    draws: tuple[bool, ...]
    initial_scale: float

    @property
    def steps(self) -> int:
        """The number of denoising steps."""
        return len(self.draws)


Row = tuple[float, float, float, float, float, float, float, float]
Built = tuple[list[Row], list[bool]] | None


def tabulate(scheduler: Any, begin: int = 0, end: int | None = None) -> Table | None:
    """The table of a diffusers scheduler whose timesteps are set; None when it is not of the form above.

    The table has the steps from `begin` up to `end`; the prediction of the step before `begin` is not used.
    """
    builders: dict[str, Callable[[Any], Built]] = {
        "EulerDiscreteScheduler": _euler,
        "EulerAncestralDiscreteScheduler": _euler_ancestral,
        "DDIMScheduler": _ddim,
        "DPMSolverMultistepScheduler": functools.partial(_dpm_solver, begin=begin),
        "LCMScheduler": _lcm,
    }
    builder = builders.get(type(scheduler).__name__)
    config = scheduler.config
    if builder is None or config.get("thresholding") or config.get("clip_sample"):
        return None
    if config.prediction_type not in ("epsilon", "v_prediction", "sample"):
        return None
    made = builder(scheduler)
    if made is None:
        return None
    rows, draws = made
    table = torch.tensor(rows[begin:end], dtype=torch.float32).view(-1, COLUMNS)
    return Table(table, tuple(draws[begin:end]), float(scheduler.init_noise_sigma))


def _euler(scheduler: Any) -> Built:
    sigmas, timesteps = scheduler.sigmas.tolist(), scheduler.timesteps.tolist()
    rows = []
    for i, timestep in enumerate(timesteps):
        p, q = _denoised_from_sigma(scheduler.config.prediction_type, sigmas[i])
        ratio = (sigmas[i + 1] - sigmas[i]) / sigmas[i]
        rows.append((1 / math.sqrt(sigmas[i] ** 2 + 1), timestep, p, q, 1 + ratio, -ratio, 0.0, 0.0))
    return rows, [False] * len(rows)


def _euler_ancestral(scheduler: Any) -> Built:
    sigmas, timesteps = scheduler.sigmas.tolist(), scheduler.timesteps.tolist()
    if scheduler.config.prediction_type == "sample":
        return None
    rows = []
    for i, timestep in enumerate(timesteps):
        now, then = sigmas[i], sigmas[i + 1]
        p, q = _denoised_from_sigma(scheduler.config.prediction_type, now)
        up = math.sqrt(then**2 * (now**2 - then**2) / now**2)
        down = math.sqrt(then**2 - up**2)
        ratio = (down - now) / now
        rows.append((1 / math.sqrt(now**2 + 1), timestep, p, q, 1 + ratio, -ratio, 0.0, up))
    return rows, [True] * len(rows)


def _denoised_from_sigma(prediction: str, sigma: float) -> tuple[float, float]:
    """p and q for x = image + sigma·noise."""
    if prediction == "epsilon":
        return 1.0, -sigma
    if prediction == "v_prediction":
        return 1 / (sigma**2 + 1), -sigma / math.sqrt(sigma**2 + 1)
    return 0.0, 1.0


def _denoised_from_alpha(prediction: str, alpha: float, sigma: float) -> tuple[float, float]:
    """p and q for x = alpha·image + sigma·noise, with alpha² + sigma² = 1."""
    if prediction == "epsilon":
        return 1 / alpha, -sigma / alpha
    if prediction == "v_prediction":
        return alpha, -sigma
    return 0.0, 1.0


def _ddim(scheduler: Any) -> Built:
    config, timesteps = scheduler.config, scheduler.timesteps.tolist()
    stride = config.num_train_timesteps // scheduler.num_inference_steps
    rows = []
    for timestep in timesteps:
        before = timestep - stride
        signal = float(scheduler.alphas_cumprod[timestep])
        signal_next = float(scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod)
        p, q = _denoised_from_alpha(config.prediction_type, math.sqrt(signal), math.sqrt(1 - signal))
        a = math.sqrt((1 - signal_next) / (1 - signal))
        rows.append((1.0, float(timestep), p, q, a, math.sqrt(signal_next) - a * math.sqrt(signal), 0.0, 0.0))
    return rows, [False] * len(rows)


def _lcm(scheduler: Any) -> Built:
    timesteps = scheduler.timesteps.tolist()
    rows, draws = [], []
    for i, timestep in enumerate(timesteps):
        signal = float(scheduler.alphas_cumprod[timestep])
        p, q = _denoised_from_alpha(scheduler.config.prediction_type, math.sqrt(signal), math.sqrt(1 - signal))
        skip, out = (float(value) for value in scheduler.get_scalings_for_boundary_condition_discrete(timestep))
        last = i == len(timesteps) - 1
        signal_next = 1.0 if last else float(scheduler.alphas_cumprod[timesteps[i + 1]])
        a, b = math.sqrt(signal_next) * skip, math.sqrt(signal_next) * out
        rows.append((1.0, float(timestep), p, q, a, b, 0.0, math.sqrt(1 - signal_next)))
        draws.append(not last)
    return rows, draws


def _dpm_solver(scheduler: Any, begin: int) -> Built:
    config = scheduler.config
    if config.algorithm_type not in ("dpmsolver++", "sde-dpmsolver++") or config.solver_order > 2:
        return None
    if config.use_flow_sigmas or config.variance_type is not None:
        return None
    stochastic = config.algorithm_type == "sde-dpmsolver++"
    sigmas, timesteps = scheduler.sigmas.tolist(), scheduler.timesteps.tolist()
    points = [_Point.at(sigma) for sigma in sigmas]
    rows = []
    for i, timestep in enumerate(timesteps):
        last = i == len(timesteps) - 1
        first_order = (
            i <= begin
            or config.solver_order == 1
            or (
                last
                and (
                    config.euler_at_final
                    or (config.lower_order_final and len(timesteps) < 15)
                    or config.final_sigmas_type == "zero"
                )
            )
        )
        before = None if first_order else points[i - 1]
        update = _solver_update(before, points[i], points[i + 1], config.solver_type, stochastic)
        p, q = _denoised_from_alpha(config.prediction_type, points[i].alpha, points[i].sigma)
        rows.append((1.0, float(timestep), p, q, *update))
    return rows, [stochastic] * len(rows)


@dataclass(frozen=True)
class _Point:
    """A noise level: x = alpha·image + sigma·noise; `log_ratio` is ln(alpha/sigma)."""

    alpha: float
    sigma: float
    log_ratio: float

    @classmethod
    def at(cls, sigma: float) -> "_Point":
        alpha = 1 / math.sqrt(sigma**2 + 1)
        return cls(alpha, sigma * alpha, -math.log(sigma) if sigma > 0 else math.inf)


def _solver_update(
    before: _Point | None, now: _Point, then: _Point, solver_type: str, stochastic: bool
) -> tuple[float, float, float, float]:
    """a, b, c, s of DPM-Solver++ from `now` to `then`; second order when there is a point before."""
    h = then.log_ratio - now.log_ratio
    # The stochastic solver does the same step with twice the exponent, and adds the noise that this removes.
    exponent = 2 * h if stochastic else h
    shrink = math.exp(-exponent)
    a = then.sigma / now.sigma * (math.exp(-h) if stochastic else 1.0)
    b = then.alpha * (1 - shrink)
    s = then.sigma * math.sqrt(1 - shrink) if stochastic else 0.0
    if before is None:
        return a, b, 0.0, s
    ratio = (now.log_ratio - before.log_ratio) / h
    slope = 0.5 * b if solver_type == "midpoint" else then.alpha * (1 - (1 - shrink) / exponent)
    return a, b + slope / ratio, -slope / ratio, s
