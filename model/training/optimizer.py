"""AdamW over one flat float32 vector of everything that trains, whatever dtype the model holds it in.

N: number of trained values. One vector makes the all-reduce one call, the clip one norm, a checkpoint three tensors.
LoRA weights held in float32 beside a bfloat16 backbone would make a step four times slower; so the model's own copy has
the backbone's dtype, and what Adam adds up is kept here. Source: AdamW (arXiv 1711.05101).
"""

from __future__ import annotations

import torch
from torch import nn

BETAS, EPSILON = (0.9, 0.95), 1e-8


class MasterAdamW:
    """The order of `parameters` is the order of the vector; it must be the same on every worker and after a resume.

    `neutral`: what weight decay draws a parameter of this name towards; 0 where none is given.
    """

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        *,
        weight_decay: float,
        clip: float,
        neutral: dict[str, float] | None = None,
    ):
        self.parameters = list(parameters.values())
        self.weight_decay, self.clip = weight_decay, clip
        self.neutral = [(neutral or {}).get(name, 0.0) for name in parameters]
        self.master_N = torch.cat([p.detach().float().flatten() for p in self.parameters])
        self.mean_N, self.square_N = torch.zeros_like(self.master_N), torch.zeros_like(self.master_N)
        self.steps = 0

    def add_gradient(self, sum_N: torch.Tensor) -> None:
        """Add to float32 [N] what one backward has left, and clear it: a sum in the model's bfloat16 would round with
        every micro-batch."""
        for parameter, piece in zip(self.parameters, self._pieces(sum_N), strict=True):
            if parameter.grad is not None:
                piece.add_(parameter.grad.flatten())
                parameter.grad = None

    def step(self, gradient_N: torch.Tensor, learning_rate: float) -> None:
        """One update of masters and model, with the gradient's norm held to `clip`."""
        norm = float(gradient_N.norm())
        gradient_N = gradient_N * min(1.0, self.clip / (norm + 1e-6))
        self.steps += 1
        self.mean_N.lerp_(gradient_N, 1 - BETAS[0])
        self.square_N.mul_(BETAS[1]).addcmul_(gradient_N, gradient_N, value=1 - BETAS[1])
        mean_N = self.mean_N / (1 - BETAS[0] ** self.steps)
        deviation_N = (self.square_N / (1 - BETAS[1] ** self.steps)).sqrt_().add_(EPSILON)
        self._decay(learning_rate * self.weight_decay)
        self.master_N.addcdiv_(mean_N, deviation_N, value=-learning_rate)
        self._to_model()

    def tensors(self) -> dict[str, torch.Tensor]:
        return {
            "optimizer.master": self.master_N.cpu(),
            "optimizer.mean": self.mean_N.cpu(),
            "optimizer.square": self.square_N.cpu(),
            "optimizer.steps": torch.tensor(self.steps),
        }

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Raises ValueError where the tensors are of a run that trains something else."""
        if tensors["optimizer.master"].shape != self.master_N.shape:
            found, wanted = len(tensors["optimizer.master"]), len(self.master_N)
            raise ValueError(f"the checkpoint trains {found} values, this run {wanted}; its settings are others")
        self.master_N.copy_(tensors["optimizer.master"])
        self.mean_N.copy_(tensors["optimizer.mean"])
        self.square_N.copy_(tensors["optimizer.square"])
        self.steps = int(tensors["optimizer.steps"])
        self._to_model()

    def _decay(self, share: float) -> None:
        """So much of the way to where a parameter does nothing."""
        if share:
            for piece, neutral in zip(self._pieces(self.master_N), self.neutral, strict=True):
                piece.mul_(1 - share).add_(share * neutral)

    @torch.no_grad()
    def _to_model(self) -> None:
        for parameter, piece in zip(self.parameters, self._pieces(self.master_N), strict=True):
            parameter.copy_(piece.view_as(parameter))

    def _pieces(self, vector_N: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Views, a parameter each."""
        return vector_N.split([p.numel() for p in self.parameters])
