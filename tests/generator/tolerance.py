"""How far two float32 computations of the same result may differ, on every processor. Tests take tolerances from here.

float32 has 24 significant bits: EPS = 2^-23, and each operation rounds its result by at most EPS / 2 of it. PyTorch
adds in another order, and fuses other multiplications with additions, on each kind of processor, for each number of
threads and for each batch size. A sum of n terms then differs by n × EPS / 2 at worst and typically by sqrt(n) × EPS /
2, because the errors have random signs (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 2.8 and
4.2).

A tolerance is meaningful as long as a defect exceeds it: one wrong step, seed, prompt or neighbour in the batch changes
the result by more than ten times the tolerance (`test_tolerance.py`).
"""

import math

import torch

from services.generator.models import ImageRequest

EPS = torch.finfo(torch.float32).eps
# The longest sum of one layer in the models of these tests: a 3×3 convolution over 128 channels.
LONGEST_SUM = 9 * 128


def summation(terms: int) -> float:
    """Relative difference between two sums of `terms` numbers, of the largest of them."""
    return math.sqrt(terms) * EPS / 2


def worst_summation(terms: int) -> float:
    """The same where no sum may differ by more."""
    return terms * EPS / 2


def elementwise(operations: int) -> float:
    """Relative difference between two ways to do so many additions, multiplications and square roots."""
    return operations * EPS / 2


def network() -> float:
    """Relative difference between two evaluations of a network: that of its longest sums.

    Normalisation between the layers keeps the relative error from growing with their number.
    """
    return summation(LONGEST_SUM)


def latents(request: ImageRequest) -> float:
    """Relative difference between two computations of the finished latents of a request.

    Guidance multiplies the error of the prediction with the prompt by g, of the one without by g - 1. The errors of the
    steps add like random numbers: by the square root of the number of evaluations, two a step for second-order
    schedulers.
    """
    amplified = max(1.0, 2 * request.guidance_scale - 1)
    return network() * amplified * math.sqrt(2 * request.num_inference_steps)


def sampler(steps: int) -> float:
    """Relative difference between two ways to do the arithmetic of so many sampler steps: about ten operations each.

    The coefficients are computed in float64 by one and in float32 by the other, where differences of close logarithms
    and squares lose up to four bits: a factor of 16.
    """
    return 16 * elementwise(10) * math.sqrt(steps)
