"""AdamW in a few lines: torch's own takes 5 s of CPU to import, longer than a small ranker takes to train."""

from collections.abc import Iterable

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), in place; what torch.optim.AdamW does."""

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.weight_decay = weight_decay
        self._means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One step along the gradients, which are then forgotten; a parameter without one stays."""
        self._steps += 1
        first, second = (1 - beta**self._steps for beta in BETAS)
        for parameter, mean, square in zip(self.parameters, self._means, self._squares, strict=True):
            if parameter.grad is None:
                continue
            mean.lerp_(parameter.grad, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(parameter.grad, parameter.grad, value=1 - BETAS[1])
            parameter.mul_(1 - learning_rate * self.weight_decay)
            parameter.addcdiv_(mean, (square / second).sqrt_().add_(EPSILON), value=-learning_rate / first)
            parameter.grad = None
