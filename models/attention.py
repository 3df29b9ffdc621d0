"""Target attention: what in a viewer's history is like the candidate, and what came of it.

After Zhou et al. 2018 (Deep Interest Network), with dot products instead of a network per pair, so that a
request is a few matrix products: keys and values of a history are made once for all candidates. As there, the
weights need not sum to one: an entry of nothing, of score 0, takes what no video of the history deserves.

N rows, V viewers, L entries of a history, E the length of a video's vector, A heads of d places, W = A · d.
"""

import torch
from torch import Tensor, nn

STEEPEST = 40.0
"""Greatest logit of a softmax that is written out as exponentials, which is faster than onnxruntime's own."""
AGE = 8.0
"""log(1 + hours) of about four months; ages come to about 1 by it."""


class TargetAttention(nn.Module):
    """Candidates float32[N, E] and histories to float32[N, W]; zeros for an empty history."""

    def __init__(self, vector: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.depth = heads, width // heads
        self.query = nn.Linear(vector, width, bias=False)
        self.key = nn.Linear(vector, width, bias=False)
        self.bias = nn.Linear(2, heads)
        self.value = nn.Linear(vector + 2, width)

    def entries(self, past: Tensor, strength: Tensor, age_s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Histories, vectors float32[V, L, E] and signals float32[V, L], as what candidates are held against.

        Keys float32[V, A, d, L], values float32[V, A, L, d], and what each entry is worth to any candidate,
        float32[V, A, L].
        """
        signals = torch.stack([strength, torch.log1p(age_s / 3600) / AGE], dim=2)
        keys = self.key(past).unflatten(2, (self.heads, self.depth)).permute(0, 2, 3, 1)
        values = self.value(torch.cat([past, signals], dim=2))
        return (
            keys / self.depth**0.5,
            values.unflatten(2, (self.heads, self.depth)).transpose(1, 2),
            self.bias(signals).transpose(1, 2),
        )

    def queries(self, candidate: Tensor) -> Tensor:
        """float32[..., E] to float32[..., A, d]."""
        asked: Tensor = self.query(candidate).unflatten(-1, (self.heads, self.depth))
        return asked


def attend(score: Tensor, values: Tensor) -> Tensor:
    """Scores [..., L] and values [..., L, d] to the weighted sum of values, beside the entry of nothing."""
    weights = score.clamp(max=STEEPEST).exp()
    return (weights @ values) / (1 + weights.sum(dim=-1, keepdim=True))
