"""Measures of a ranking, of probabilities and of predicted watch time, vectorised over users.

Per-user measures answer float64[U], NaN for a user whom they say nothing about, so that the paired bootstrap
(:mod:`models.bootstrap`) can take them as they are; ``np.nanmean`` gives the usual figure.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What each user turned out to want: one gain per (user, video), greater than zero.

    keys: int64[m] ascending, user · videos + video; gains: float64[m]; users, videos: how many there are.
    """

    keys: NDArray[np.int64]
    gains: Floats
    users: int
    videos: int

    @classmethod
    def of(cls, user: ArrayLike, video: ArrayLike, gain: ArrayLike, users: int, videos: int) -> Self:
        """From int[m], int[m], float[m]. Rows without gain fall out; of a repeated pair the best counts."""
        keys = np.asarray(user, np.int64) * videos + np.asarray(video, np.int64)
        gains = np.asarray(gain, np.float64)
        kept = gains > 0
        order = np.lexsort((-gains[kept], keys[kept]))
        unique, first = np.unique(keys[kept][order], return_index=True)
        return cls(unique, gains[kept][order][first], users, videos)

    def gains_of(self, ranked: NDArray[np.integer]) -> Floats:
        """Gain of each place of int[U, K] (-1: an empty place), float64[U, K]."""
        if len(self.keys) == 0:
            return np.zeros(ranked.shape)
        keys = np.arange(self.users)[:, None] * self.videos + ranked
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found = (self.keys[place] == keys) & (ranked >= 0)
        return np.where(found, self.gains[place], 0.0)

    def ideal(self, k: int) -> Floats:
        """The k greatest gains of each user, descending, zeros behind: float64[U, k]."""
        user = self.keys // self.videos
        order = np.lexsort((-self.gains, user))
        start = np.searchsorted(user, np.arange(self.users))
        place = np.arange(len(user)) - start[user]
        best = np.zeros((self.users, k))
        kept = place < k
        best[user[kept], place[kept]] = self.gains[order][kept]
        return best

    def counts(self) -> NDArray[np.int64]:
        """Videos wanted by each user, int64[U]."""
        return np.bincount(self.keys // self.videos, minlength=self.users)

    def among(self, videos: NDArray[np.bool_]) -> "Truth":
        """The same users wanting only the videos that a mask bool[n] keeps, such as the new ones."""
        kept = videos[self.keys % self.videos]
        return Truth(self.keys[kept], self.gains[kept], self.users, self.videos)


def ndcg(ranked: NDArray[np.integer], truth: Truth, k: int) -> Floats:
    """NDCG@k per user with the gains taken linearly (Järvelin & Kekäläinen 2002; log2 discount)."""
    discount = 1 / np.log2(np.arange(2, k + 2))
    ranked = ranked[:, :k]
    got = truth.gains_of(ranked) @ discount[: ranked.shape[1]]
    return _divide(got, truth.ideal(k) @ discount)


def recall(ranked: NDArray[np.integer], truth: Truth, k: int) -> Floats:
    """Share of a user's wanted videos among the first k."""
    hits = (truth.gains_of(ranked[:, :k]) > 0).sum(axis=1)
    return _divide(hits, truth.counts())


def average_precision(ranked: NDArray[np.integer], truth: Truth, k: int) -> Floats:
    """AP@k per user, over min(k, wanted) as is usual; its mean is MAP@k."""
    hits = truth.gains_of(ranked[:, :k]) > 0
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return _divide((precision * hits).sum(axis=1), np.minimum(truth.counts(), k))


def hit_rate(ranked: NDArray[np.integer], truth: Truth, k: int) -> Floats:
    """1 for a user who finds any wanted video among the first k, else 0: HR@k of leave-one-out."""
    hit = (truth.gains_of(ranked[:, :k]) > 0).any(axis=1)
    return np.where(truth.counts() > 0, hit, np.nan)


def watch_time_per_slot(ranked: NDArray[np.integer], watched: Truth, k: int) -> Floats:
    """Seconds watched per filled place among the first k; ``watched`` has seconds as its gains."""
    ranked = ranked[:, :k]
    return _divide(watched.gains_of(ranked).sum(axis=1), (ranked >= 0).sum(axis=1))


def coverage(ranked: NDArray[np.integer], videos: int) -> float:
    """Share of the catalogue that anyone is shown."""
    return len(np.unique(ranked[ranked >= 0])) / videos


def gini(ranked: NDArray[np.integer], videos: int) -> float:
    """Gini coefficient of the videos' exposure: 0 all alike, towards 1 a few take all."""
    shown = np.sort(np.bincount(ranked[ranked >= 0], minlength=videos)).astype(np.float64)
    if not shown.sum():
        return float("nan")
    weight = 2 * np.arange(1, videos + 1) - videos - 1
    return float(weight @ shown / (videos * shown.sum()))


def creator_gini(ranked: NDArray[np.integer], creator: NDArray[np.integer]) -> float:
    """Gini coefficient of the creators' exposure, over the creators int[n] (-1 unknown) of a catalogue."""
    shown = np.where(ranked >= 0, creator[ranked], -1)
    return gini(shown, int(creator.max(initial=-1)) + 1)


def novelty(ranked: NDArray[np.integer], engagements: NDArray[np.integer], users: int) -> Floats:
    """Mean self-information of what each user is shown, in bits (Zhou et al., PNAS 2010).

    -log2 of the share of ``users`` who engaged with a video, int[n] of them; one that nobody did counts as
    if half a user had.
    """
    bits = -np.log2(np.maximum(engagements, 0.5) / users)
    filled = ranked >= 0
    return _divide((bits[ranked] * filled).sum(axis=1), filled.sum(axis=1))


def auc(label: ArrayLike, score: ArrayLike) -> float:
    """Probability that a positive scores above a negative, ties half; NaN with one class only."""
    return gauc(label, score, np.zeros(np.shape(label), np.int64))


def gauc(label: ArrayLike, score: ArrayLike, group: ArrayLike) -> float:
    """AUC within each group (Zhou et al. 2018), weighted by rows; groups of one class fall out."""
    values, sizes = grouped_auc(label, score, group)
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=sizes[known])) if known.any() else float("nan")


def grouped_auc(label: ArrayLike, score: ArrayLike, group: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    """AUC and rows of each group, float64[G] and int64[G] in the groups' order, for labels of 0 and 1."""
    label, score = np.asarray(label, np.float64), np.asarray(score, np.float64)
    code = np.unique(np.asarray(group), return_inverse=True)[1]
    groups = int(code.max()) + 1 if len(code) else 0
    order = np.lexsort((score, code))
    code, score, label = code[order], score[order], label[order]
    first = np.ones(len(code), bool)
    first[1:] = (code[1:] != code[:-1]) | (score[1:] != score[:-1])
    tie = np.cumsum(first) - 1
    midrank = np.bincount(tie, np.arange(len(code)))[tie] / np.bincount(tie)[tie] if len(code) else score
    sizes = np.bincount(code, minlength=groups)
    midrank = midrank - (np.cumsum(sizes) - sizes)[code] + 1
    positives = np.bincount(code, label, groups)
    ranks = np.bincount(code, midrank * label, groups)
    return _divide(ranks - positives * (positives + 1) / 2, positives * (sizes - positives)), sizes


def log_loss(label: ArrayLike, probability: ArrayLike) -> float:
    """Mean negative log-likelihood in nats."""
    label = np.asarray(label, np.float64)
    p = np.clip(np.asarray(probability, np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(label * np.log(p) + (1 - label) * np.log1p(-p)))


def ece(label: ArrayLike, probability: ArrayLike, bins: int = 20) -> float:
    """Expected calibration error over bins of equal mass (Nixon et al. 2019): rare heads need them."""
    label, p = np.asarray(label, np.float64), np.asarray(probability, np.float64)
    order = np.argsort(p, kind="stable")
    bin_of = np.arange(len(p)) * min(bins, len(p)) // max(len(p), 1)
    gap = np.bincount(bin_of, (label - p)[order])
    return float(np.abs(gap).sum() / len(p)) if len(p) else float("nan")


def mae(target: ArrayLike, predicted: ArrayLike) -> float:
    """Mean absolute error, in the target's unit."""
    return float(np.mean(np.abs(np.asarray(target, np.float64) - np.asarray(predicted, np.float64))))


def xauc(target: ArrayLike, predicted: ArrayLike) -> float:
    """Share of pairs of different target that the prediction orders alike, ties half (Zhan et al. 2022, D2Q).

    Exact over all pairs in O(n log n): (1 + Somers' D) / 2, by way of Kendall's tau-b.
    """
    from scipy.stats import kendalltau  # SciPy stays off the serving path

    target, predicted = np.asarray(target, np.float64), np.asarray(predicted, np.float64)
    pairs = len(target) * (len(target) - 1) / 2
    untied_target, untied_predicted = pairs - _tied(target), pairs - _tied(predicted)
    if not untied_target:
        return float("nan")
    if not untied_predicted:
        return 0.5
    surplus = kendalltau(target, predicted).statistic * np.sqrt(untied_target * untied_predicted)
    return float((1 + surplus / untied_target) / 2)


def _tied(values: Floats) -> float:
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1) / 2).sum())


def _divide(above: ArrayLike, below: ArrayLike) -> Floats:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    out = np.full(below.shape, np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out
