"""Muon: momentum made orthogonal, which needed half of Adam's steps here (docs/decisions/0030)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_MOMENTUM = 0.95


def split(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The trained parameters of `network`: hidden matrices and convolutions, for Muon, and all the others, for Adam."""
    hidden, others = list[Tensor](), list[Tensor]()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            inner = parameter.ndim >= 2 and not any(part in name for part in ("embed", "conv_in", "conv_out"))
            (hidden if inner else others).append(parameter)
    return hidden, others


class Muon(torch.optim.Optimizer):
    """Keller Jordan's optimiser for hidden layers (2024): https://kellerjordan.github.io/posts/muon/.

    `torch.optim.Muon` does the same for matrices only; this one flattens the kernels of convolutions to rows, one an
    output channel, and orthogonalises all parameters of one shape together.
    """

    def __init__(self, parameters: Iterable[Tensor], rate: float) -> None:
        super().__init__(parameters, {"lr": rate})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter by `lr`, whatever the length of its gradient; `closure` must be None."""
        assert closure is None
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                momentum.mul_(_MOMENTUM).add_(parameter.grad)
                ahead = parameter.grad.add(momentum, alpha=_MOMENTUM).flatten(1)
                alike.setdefault(ahead.shape, []).append((parameter, ahead))
            for shape, pairs in alike.items():
                moves = orthogonal(torch.stack([ahead for _, ahead in pairs]))
                length = max(1.0, shape[0] / shape[1]) ** 0.5 * group["lr"]
                for (parameter, _), move in zip(pairs, moves, strict=True):
                    parameter.sub_(move.view_as(parameter), alpha=length)


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (count, rows, columns) with all singular values brought near one, by a Newton-Schulz iteration."""
    first, third, fifth = _QUINTIC
    moved: Tensor = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = moved.shape[-2] > moved.shape[-1]
    moved = moved.mT if tall else moved
    for _ in range(_ITERATIONS):
        square = moved @ moved.mT
        moved = first * moved + (third * square + fifth * square @ square) @ moved
    return moved.mT if tall else moved
