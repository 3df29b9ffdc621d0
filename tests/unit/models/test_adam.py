"""AdamW against its formula, written out step by step."""

import numpy as np
import torch

from models.adam import AdamW


def test_it_follows_the_formula() -> None:
    rates, decay, gradients = (0.1, 0.05, 0.02), 0.3, np.array([[1.0, -2], [0.5, 3], [-4, 0]])
    ours = torch.nn.Parameter(torch.tensor([1.0, -1.0], dtype=torch.float64))
    optimiser = AdamW([ours], weight_decay=decay)
    theta, mean, square = np.array([1.0, -1.0]), np.zeros(2), np.zeros(2)
    for step, (rate, gradient) in enumerate(zip(rates, gradients, strict=True), 1):
        ours.grad = torch.tensor(gradient)
        optimiser.step(rate)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        corrected = np.sqrt(square / (1 - 0.999**step)) + 1e-8
        theta = theta - rate * decay * theta - rate * mean / (1 - 0.9**step) / corrected
        np.testing.assert_allclose(ours.detach().numpy(), theta, rtol=1e-12)
        assert ours.grad is None


def test_what_has_no_gradient_stays() -> None:
    still = torch.nn.Parameter(torch.ones(2))
    AdamW([still], weight_decay=0.1).step(0.1)
    assert still.tolist() == [1, 1]
