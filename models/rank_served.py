"""The ranker's network as it serves one viewer: what does not depend on the candidate is computed once.

A linear map of all inputs is the sum of one of the viewer's columns, u, and one of the candidate's, v. That
holds behind the cross layers too: with z_l = V_l x_(l-1), the low-rank product of layer l, their output is

    x_l = x_0 ⊙ (1 + Σ_(j ≤ l) (U_j z_j + b_j))

so the viewer's columns contribute to a map W of it W_u (u ⊙ (1 + Σ b_j)) + Σ (W_u diag(u) U_j) z_j: a row and
matrices of rank r, made once per request, and per candidate a product with the z_j alone. Nothing is
approximated.

C candidates, L entries of the history, Du and Dv columns of u and v, H heads, X experts, r the rank.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from models.attention import STEEPEST, TargetAttention, attend
from models.rank_calibration import Calibration
from models.rank_net import CrossLayer, RankNet


class Served(nn.Module):
    """What is exported: one viewer and C candidates in, float32[C, H + 1] out, probabilities, then seconds.

    Inputs are normalised: user, context float32[1, ·]; video, cross float32[C, ·]; then those of
    :class:`models.rank_data.Compared`.
    """

    scale: Tensor
    shift: Tensor
    seconds: Tensor
    same_gate: Tensor
    sum_experts: Tensor
    tops: Tensor
    watch: Tensor
    watch_bias: Tensor

    def __init__(self, net: RankNet, calibration: Calibration) -> None:
        super().__init__()
        self.shape = net.shape
        self.attention = net.attention if net.shape.vector else None
        viewer = net.shape.viewer
        self.crosses = nn.ModuleList(_Cross(layer, viewer) for layer in net.cross_layers)
        self.wide = _Split(net.wide, viewer)
        self.last = _Split(_side_by_side(net.bottom, net.gates), viewer)
        self.experts = net.experts
        experts = torch.eye(net.shape.experts)
        groups = torch.ones(net.shape.experts, 1)
        self.register_buffer("same_gate", torch.kron(torch.eye(net.shape.heads + 1), groups @ groups.T))
        self.register_buffer("sum_experts", torch.kron(torch.eye(net.shape.heads), groups))
        # Column (h, x) is top h applied to expert x.
        tops = torch.einsum("hw,xy->xwhy", net.tops.detach(), experts)
        self.register_buffer("tops", tops.flatten(2).flatten(0, 1))
        self.register_buffer("watch", net.watch.weight.detach().T.repeat(net.shape.experts, 1))
        self.register_buffer("watch_bias", net.watch.bias.detach())
        self.register_buffer("scale", torch.from_numpy(calibration.scale))
        self.register_buffer("shift", torch.from_numpy(calibration.shift))
        self.register_buffer("seconds", torch.from_numpy(calibration.seconds))

    def forward(
        self, user: Tensor, context: Tensor, video: Tensor, cross: Tensor, *compared: Tensor
    ) -> Tensor:
        u, parts = torch.cat([user, context], dim=1), [video, cross]
        if self.attention is not None:
            parts += _attended(self.attention, *compared)
        v = torch.cat(parts, dim=1)
        last = _Crossed(u, v, cast(Iterable[_Cross], self.crosses)).through(self.last)
        mixed = self.experts(last[:, : self.shape.width].relu()).relu()
        logits, bins = self._mixed(mixed, last[:, self.shape.width :])
        logits = logits + _Crossed(u, v, []).through(self.wide)
        probabilities = torch.sigmoid(logits * self.scale + self.shift)
        seconds = bins.softmax(dim=1) @ self.seconds[:, None]
        return torch.cat([probabilities, seconds], dim=1)

    def _mixed(self, experts: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of heads and of bins, of experts float32[C, X · w] and gates float32[C, (H + 1) · X].

        Written as few wide products: with 0 and 1 as weights they sum over groups of X columns.
        """
        count = self.shape.experts
        weights = gates.clamp(-STEEPEST, STEEPEST).exp()
        shares = weights / (weights @ self.same_gate)
        of_heads = (experts @ self.tops) * shares[:, :-count]
        of_watch = experts.reshape(-1, count, self.shape.width // 2) * shares[:, -count:, None]
        return of_heads @ self.sum_experts, of_watch.flatten(1) @ self.watch + self.watch_bias


def _attended(
    attention: TargetAttention, candidate: Tensor, past: Tensor, strength: Tensor, age_s: Tensor
) -> tuple[Tensor, Tensor]:
    """What of the history is like each candidate, and the candidates' queries, float32[C, W] each."""
    keys, values, worth = attention.entries(past[None], strength[None], age_s[None])
    queries = attention.queries(candidate)
    score = queries.transpose(0, 1) @ keys[0] + worth[0][:, None]
    return attend(score, values[0]).transpose(0, 1).flatten(1), queries.flatten(1)


def _side_by_side(*maps: nn.Linear) -> nn.Linear:
    """Several maps of one input as one: a wide product is faster than narrow ones."""
    joined = nn.Linear(maps[0].in_features, sum(each.out_features for each in maps))
    with torch.no_grad():
        joined.weight.copy_(torch.cat([each.weight for each in maps]))
        joined.bias.copy_(torch.cat([each.bias for each in maps]))
    return joined


class _Crossed:
    """Outputs of the cross layers: of the viewer's columns shared + u ⊙ Σ U_j z_j, of the candidate's v.

    shared: float32[1, Du], the part of the viewer's columns that is the same for all candidates.
    """

    def __init__(self, u: Tensor, v: Tensor, layers: Iterable["_Cross"]) -> None:
        self.u, self.v, self.shared = u, v, u
        self.products: list[Tensor] = []
        self.lifts: list[Tensor] = []
        factor: Tensor | float = 1.0
        for layer in layers:
            self.products.append(self.through(layer.down))
            self.lifts.append(layer.up_u)
            self.shared = self.shared + u * layer.add_u
            factor = factor + (self.products[-1] @ layer.up_v + layer.add_v)
            self.v = v * factor

    def through(self, linear: "_Split") -> Tensor:
        """A linear map of the newest layer's output, float32[C, out]."""
        mapped = self.v @ linear.of_video + (self.shared @ linear.of_viewer + linear.bias)
        if self.products:
            lift = (torch.cat(self.lifts) * self.u) @ linear.of_viewer
            mapped = mapped + torch.cat(self.products, dim=1) @ lift
        return mapped


class _Split(nn.Module):
    """A linear map of a viewer's columns float32[Du, out] and of a candidate's float32[Dv, out]."""

    of_viewer: Tensor
    of_video: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear, viewer: int) -> None:
        super().__init__()
        weight = linear.weight.detach().T
        bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach()
        self.register_buffer("of_viewer", weight[:viewer].contiguous())
        self.register_buffer("of_video", weight[viewer:].contiguous())
        self.register_buffer("bias", bias)


class _Cross(nn.Module):
    """One cross layer, split alike. up_u, up_v: float32[r, Du] and [r, Dv]; add_u, add_v: their biases."""

    up_u: Tensor
    up_v: Tensor
    add_u: Tensor
    add_v: Tensor

    def __init__(self, layer: CrossLayer, viewer: int) -> None:
        super().__init__()
        self.down = _Split(layer.down, viewer)
        up, add = layer.up.weight.detach().T, layer.up.bias.detach()
        for side, columns in (("u", slice(viewer)), ("v", slice(viewer, None))):
            self.register_buffer(f"up_{side}", up[:, columns].contiguous())
            self.register_buffer(f"add_{side}", add[columns])
