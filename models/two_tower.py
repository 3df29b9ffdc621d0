"""Training the two towers, on one machine's CPU.

The chance that a viewer takes a video is modelled as its popularity times exp(cosine / temperature). So the
towers learn only what popularity does not say, and a release adds the popularity of its own day.

In-batch sampled softmax with the logQ correction (Yi et al., "Sampling-bias-corrected neural modeling for
large corpus item recommendations", RecSys 2019) and uniformly drawn extra negatives (Yang et al., "Mixed
negative sampling", WWW 2020). Embeddings of videos start from :mod:`models.spectral`, which stands in for
the many epochs that a random start would need.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.catalogue import Catalogue
from models.checks import require_positive
from models.content_start import content_start
from models.dataset import Interactions
from models.history import SECOND, Histories
from models.popularity_prior import PopularityPrior
from models.spectral import directions
from models.two_tower_net import TwoTower, VideoBatch
from models.video_inputs import VideoInputs
from models.viewer_inputs import context
from models.workers import torch_state
from upnext.errors import CorruptData, EmptyData

DAY = 86_400 * SECOND
CHUNK = 8192
"""Videos that are run through their tower at once."""
BLOCK = 64
"""Batches whose histories are gathered at once."""


@dataclass(frozen=True)
class TwoTowerConfig:
    """How the towers are trained. The defaults were chosen on validation days; figures are in docs/LOG.md."""

    width: int = 128
    """Width D of the vectors: a direction of D - 1 and one place for popularity."""
    embedding: int = 64
    """Width E of the embeddings."""
    heads: int = 4
    """Ways in which the user tower weighs a history."""
    length: int = 32
    """Newest videos of a history that are read."""
    samples: int = 200_000
    """Positives to train on at most, repeats counted: the budget of the run."""
    epochs: float = 1.5
    """Times that each positive is seen, where the budget allows."""
    batch: int = 1024
    """Positives per step; each is a negative for the others."""
    uniform: int = 512
    """Negatives per step drawn uniformly from the videos that were taken. Of others nobody knows whether they
    would have been, and to push them away is to teach that what is new is not liked."""
    temperature: float = 0.2
    """What cosines are divided by."""
    popularity_half_life_h: float = 24.0
    """Hours after which an engagement counts half towards the popularity that is added to the cosine."""
    learning_rate: float = 5e-4
    drop_row: float = 0.4
    """Share of videos per step whose own embedding is hidden, so that content alone learns to stand for
    videos without a past."""
    drop_context: float = 0.3
    """Share of positives whose hour, device and region are hidden, so that a stranger is no surprise."""
    warm_share: float = 0.5
    """Part of the budget that is spent when training goes on from earlier towers."""
    min_strength: float = 0.1
    """Least strength of a positive; each weighs min(strength, 1) in the loss."""
    half_life_days: float = 7.0
    """Age before the newest, in days, at which a positive is drawn half as often when the budget cuts."""
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        numbers = ("width", "embedding", "heads", "length", "samples", "epochs", "batch", "threads")
        scales = ("temperature", "learning_rate", "half_life_days", "popularity_half_life_h")
        require_positive(self, *numbers, *scales)
        for name in ("drop_row", "drop_context"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, not in [0, 1)")
        if not 0 < self.warm_share <= 1:
            raise ValueError(f"warm_share is {self.warm_share}, not in (0, 1]")


@dataclass(frozen=True)
class Trained:
    """Towers after training, and what they were trained on."""

    net: TwoTower
    inputs: VideoInputs
    config: TwoTowerConfig
    as_of: int
    """Newest interaction, microseconds; ages of videos and the popularity are as of then."""
    popularity: NDArray[np.float32]
    """float32[n], decayed sum of strengths."""
    prior: PopularityPrior
    usual_age: int
    """Bucket of the age that most videos with a history are of, which is given to those without: few are
    taken in their first hour because few are shown then, and ages that no rival is of are no measure."""
    losses: tuple[float, ...]
    """Mean loss of each block of steps."""


@dataclass(frozen=True)
class _Batch:
    video: NDArray[np.int32]
    ts: NDArray[np.int64]
    weight: NDArray[np.float32]
    context: NDArray[np.int64]
    histories: Histories

    def part(self, which: slice) -> "_Batch":
        return _Batch(
            self.video[which],
            self.ts[which],
            self.weight[which],
            self.context[which],
            self.histories[which],
        )


def train(
    interactions: Interactions,
    catalogue: Catalogue,
    config: TwoTowerConfig | None = None,
    *,
    visual: NDArray[np.float32] | None = None,
    viewers: NDArray[np.int64] | None = None,
    warm_start: TwoTower | None = None,
    progress: Callable[[float], None] = lambda done: None,
) -> Trained:
    """Train on interactions, each with the history strictly before it.

    Parameters
    ----------
    interactions
        Only what retrievers may learn from: :attr:`models.dataset.Dataset.history`.
    visual
        float32[n, 32], what the videos' thumbnails look like; zeros where there is none.
    viewers
        int64[n_users, 2], where the viewers are: :func:`models.viewer_inputs.places`.
    warm_start
        Towers to go on from, of this catalogue (:func:`models.tower_export.resume` makes them fit).
    progress
        Called with the share of steps done.

    Raises
    ------
    EmptyData
        No interaction is a positive.
    CorruptData
        The loss is not finite.
    """
    config = config or TwoTowerConfig()
    positives = np.flatnonzero((interactions.strength >= config.min_strength) & (interactions.video >= 0))
    if not len(positives):
        raise EmptyData(f"no interaction has a strength of {config.min_strength}: nothing to train towers on")
    if warm_start is not None:
        shares = {name: getattr(config, name) * config.warm_share for name in ("samples", "epochs")}
        config = replace(config, samples=math.ceil(shares["samples"]), epochs=shares["epochs"])
    inputs = VideoInputs.of(catalogue, visual)
    viewers = np.zeros((interactions.n_users, 2), np.int64) if viewers is None else viewers
    rng = np.random.default_rng(config.seed)
    drawn = _draw(interactions.ts[positives], config, rng)
    counts = np.bincount(interactions.video[positives[drawn]], minlength=len(catalogue))
    with torch_state(config.seed, config.threads):
        net = warm_start or _fresh(interactions, inputs, config)
        step = _Step(net, inputs, counts, config, rng)
        losses = _run(step, _blocks(interactions, viewers, positives[drawn], config), len(drawn), progress)
    as_of = int(interactions.ts.max())
    popular = _popularity(interactions, len(catalogue), as_of, config.popularity_half_life_h)
    met = np.bincount(interactions.video, minlength=len(catalogue)) > 0
    prior = PopularityPrior.fit(inputs, popular, met)
    usual_age = int(np.bincount(inputs.age(np.flatnonzero(met), as_of)).argmax())
    return Trained(net.eval(), inputs, config, as_of, popular, prior, usual_age, losses)


def _fresh(interactions: Interactions, inputs: VideoInputs, config: TwoTowerConfig) -> TwoTower:
    """Towers that start out as what the log says, shared out between content and each video's own."""
    net = TwoTower(len(inputs), config.embedding, config.width - 1, config.heads)
    start = directions(interactions, len(inputs), config.embedding, config.seed)
    taken = np.bincount(interactions.video[interactions.strength > 0], minlength=len(inputs))
    tables = content_start(inputs, start, taken)
    with torch.no_grad():
        for name, table in tables.items():
            getattr(net.video, name).weight.copy_(torch.from_numpy(table))
        content = [
            net.video.embed(video_batch(inputs, rows, hidden=np.ones(len(rows), np.bool_))).numpy()
            for rows in np.array_split(np.arange(len(inputs)), 1 + len(inputs) // CHUNK)
        ]
        own = np.where(taken[:, None] > 0, start - np.concatenate(content), 0)
        net.video.row.weight[1:] = torch.from_numpy(own)
    return net


def _popularity(log: Interactions, n_videos: int, as_of: int, half_life_h: float) -> NDArray[np.float32]:
    weight = np.maximum(log.strength, 0) * 0.5 ** ((as_of - log.ts) / (3600 * SECOND * half_life_h))
    return np.bincount(log.video, weight, n_videos).astype(np.float32)


def _draw(ts: NDArray[np.int64], config: TwoTowerConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which positives to see, in order: each ``epochs`` times, or within budget the newer the likelier."""
    wanted = math.ceil(len(ts) * config.epochs)
    if wanted <= config.samples:
        rounds = [rng.permutation(len(ts)) for _ in range(math.ceil(config.epochs))]
        return np.concatenate(rounds)[:wanted]
    age = (ts.max() - ts) / (config.half_life_days * DAY)
    chance = 0.5**age
    return rng.choice(len(ts), config.samples, p=chance / chance.sum())


def _blocks(
    log: Interactions, viewers: NDArray[np.int64], rows: NDArray[np.int64], config: TwoTowerConfig
) -> Iterator[_Batch]:
    for at in range(0, len(rows), BLOCK * config.batch):
        some = rows[at : at + BLOCK * config.batch]
        ts = np.asarray(log.ts[some])
        weight = np.minimum(log.strength[some], 1).astype(np.float32)
        histories = log.histories(log.user[some], ts, config.length)
        yield _Batch(log.video[some], ts, weight, context(ts, viewers[log.user[some]]), histories)


def _run(
    step: "_Step", blocks: Iterator[_Batch], total: int, progress: Callable[[float], None]
) -> tuple[float, ...]:
    means, done = [], 0
    for block in blocks:
        losses = []
        for at in range(0, len(block.video), step.config.batch):
            batch = block.part(slice(at, at + step.config.batch))
            losses.append(step(batch, done / total))
            done += len(batch.video)
            progress(done / total)
        means.append(float(np.mean(losses)))
    return tuple(means)


class _Step:
    """One step of descent after another."""

    def __init__(
        self,
        net: TwoTower,
        inputs: VideoInputs,
        counts: NDArray[np.int64],
        config: TwoTowerConfig,
        rng: np.random.Generator,
    ) -> None:
        self.net, self.inputs, self.config, self.rng = net.train(), inputs, config, rng
        self.frequency = counts / counts.sum()
        self.popularity = np.log(counts + 1.0)
        self.met = np.flatnonzero(counts).astype(np.int32)
        sparse = {id(net.video.row.weight), id(net.video.tokens.weight), id(net.video.creator.weight)}
        tables = [weight for weight in net.parameters() if id(weight) in sparse]
        others = [weight for weight in net.parameters() if id(weight) not in sparse]
        self.optimizers = (
            torch.optim.SparseAdam(tables, lr=config.learning_rate),
            torch.optim.Adam(others, lr=config.learning_rate),
        )

    def __call__(self, batch: _Batch, done: float) -> float:
        """The loss before the step; ``done`` in [0, 1) sets the learning rate, a cosine down to nearly 0."""
        rate = self.config.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
        loss = self._loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CorruptData(
                f"the loss became {value} with learning_rate {self.config.learning_rate} and temperature "
                f"{self.config.temperature}: lower the first or raise the second"
            )
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()  # type: ignore[no-untyped-call]
        return value

    def _loss(self, batch: _Batch) -> Tensor:
        size = len(batch.video)
        extra = self.rng.choice(self.met, self.config.uniform)
        columns = np.concatenate([batch.video, extra])  # (C,) positives, then uniform negatives
        past = batch.histories
        rows, place = np.unique(np.concatenate([columns, past.rows.ravel()]), return_inverse=True)
        embedded = self.net.video.embed(
            video_batch(self.inputs, rows, hidden=self.rng.random(len(rows)) < self.config.drop_row)
        )
        at = torch.from_numpy(place)
        taken = embedded.index_select(0, at)  # its backward is far cheaper than that of embedded[at]
        when = np.concatenate([batch.ts, self.rng.choice(batch.ts, len(extra))])
        age = torch.from_numpy(self.inputs.age(columns, when))
        videos = self.net.video.direction(taken[: len(columns)], age)  # (C, D)
        entries = taken[len(columns) :].view(*past.rows.shape, -1)  # (B, L, E)
        told = self.rng.random(batch.context.shape) >= self.config.drop_context
        about = (past.strength, past.age_s, past.mask, np.where(told, batch.context, 0))
        users = self.net.user(entries, *(torch.from_numpy(x) for x in about))
        expected = size * self.frequency[columns] + self.config.uniform / len(self.met)
        beyond = torch.from_numpy(self.popularity[columns] - np.log(expected)).float()
        logits = users @ videos.T / self.config.temperature + beyond
        own = torch.arange(size)
        same = torch.from_numpy(batch.video[:, None] == columns[None, :])
        same[own, own] = False
        losses = F.cross_entropy(logits.masked_fill(same, -torch.inf), own, reduction="none")
        weight = torch.from_numpy(batch.weight)
        return (losses * weight).sum() / weight.sum()


def video_batch(
    inputs: VideoInputs, rows: NDArray[np.integer], hidden: NDArray[np.bool_] | None = None
) -> VideoBatch:
    """Inputs of some catalogue rows, -1 for none; where ``hidden`` the video's own embedding is left out."""
    there = rows >= 0
    known = there if hidden is None else there & ~hidden

    def masked(column: NDArray[Any]) -> Tensor:
        mask = there[:, None] if column.ndim == 2 else there
        return torch.from_numpy(np.where(mask, column[rows], 0))

    return VideoBatch(
        torch.from_numpy(np.where(known, rows + 1, 0).astype(np.int64)),
        masked(inputs.tokens),
        masked(inputs.category),
        masked(inputs.creator),
        masked(inputs.duration),
        masked(inputs.visual),
    )
