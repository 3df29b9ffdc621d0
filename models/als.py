"""Implicit-feedback ALS: factors of videos, and viewers folded in from whatever they did last.

Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets" (ICDM 2008). A viewer's
vector is never stored: it is the closed-form solution given their history, so it is as fresh as the history
is, and a viewer born a minute ago has one.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.checks import require_positive
from models.dataset import Interactions
from models.files import reading
from models.history import SECOND, Histories
from upnext.errors import CorruptData, EmptyData

DAY_S = 86_400.0
CHUNK = 64
"""Viewers solved at once; bounds the memory of the systems to CHUNK·d²·4 bytes."""
FOLDED = 100
"""Newest entries of a history that a viewer is folded in from."""


@dataclass(frozen=True)
class AlsConfig:
    """How ALS is fitted. The defaults were chosen on validation days; figures are in docs/LOG.md."""

    factors: int = 128
    """Width d of the vectors."""
    alpha: float = 10.0
    """Confidence that strength 1 adds to the 1 of an observed pair."""
    regularization: float = 0.3
    """Weight of the squared norms as a share of √(mean confidence of a user · mean confidence of a video),
    which is about where all factors would shrink to zero; so one value suits logs of any density."""
    popularity_power: float = 0.5
    """Confidence is scaled by (engagements of the video / mean)^-power, so that the most popular videos do
    not shape every vector; 0 switches it off."""
    half_life_days: float | None = None
    """Days after which an engagement's confidence halves; None: it never does."""
    iterations: int = 15
    """Rounds over users and videos."""
    trials: int = 8
    """Settings that are tried on a validation window before the fit, at most: these first, then other values
    of regularization, of popularity_power and of alpha (:mod:`models.als_search`); 0: none, the fit is with
    these, as it is where a log has nothing to compare on."""
    threads: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "factors", "alpha", "regularization", "iterations", "threads")
        if self.half_life_days is not None:
            require_positive(self, "half_life_days")


@dataclass(frozen=True)
class AlsModel:
    """Fitted factors of the videos.

    factors: float32[n, d], zero for videos that nobody engaged with.
    weight: float32[n], confidence that strength 1 adds, by video.
    ridge: what is added to the diagonal of every system, in units of confidence.
    """

    factors: NDArray[np.float32]
    weight: NDArray[np.float32]
    ridge: float
    config: AlsConfig

    @classmethod
    def fit(cls, interactions: Interactions, n_videos: int, config: AlsConfig | None = None) -> "AlsModel":
        """Learn from the newest row of each (user, video) whose strength is above 0.

        EmptyData where there is none. The same input and seed give the same factors.
        """
        from implicit.cpu.als import AlternatingLeastSquares
        from scipy.sparse import csr_matrix
        from threadpoolctl import threadpool_limits

        config = config or AlsConfig()
        liked = interactions.where(interactions.newest & (interactions.strength > 0))
        if not len(liked):
            raise EmptyData("no interaction has a strength above 0: ALS has nothing to learn from")
        engagements = np.bincount(liked.video, minlength=n_videos)
        weight = _weights(engagements, config)
        age_s = (liked.ts.max() - liked.ts) / SECOND
        value = confidence(liked.strength, age_s, weight[liked.video], config)
        sides = len(np.unique(liked.user)) * np.count_nonzero(engagements)
        ridge = config.regularization * float(value.sum(dtype=np.float64) / np.sqrt(sides))
        matrix = csr_matrix((value, (liked.user, liked.video)), shape=(interactions.n_users, n_videos))
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                factors=config.factors,
                regularization=ridge,
                iterations=config.iterations,
                num_threads=config.threads,
                random_state=config.seed,
            )
            model.fit(matrix, show_progress=False)
        factors = np.array(model.item_factors, dtype=np.float32)
        factors[engagements == 0] = 0
        if not np.isfinite(factors).all():
            raise CorruptData(f"ALS diverged with {config}: raise regularization or lower alpha")
        return cls(factors, weight, ridge, config)

    @cached_property
    def gramian(self) -> NDArray[np.float32]:
        """float32[d, d], YᵀY plus the regularisation."""
        products = self.factors.T @ self.factors
        return np.asarray(products + self.ridge * np.eye(len(products)), dtype=np.float32)

    @cached_property
    def inverse(self) -> NDArray[np.float32]:
        """float32[d, d], the gramian's inverse."""
        return np.asarray(np.linalg.inv(self.gramian.astype(np.float64)), dtype=np.float32)

    def fold_in(self, histories: Histories) -> NDArray[np.float32]:
        """Vectors of viewers: float32[B, d]; zeros where nothing in a history has a strength above 0.

        Solves (G + YᵀWY) x = Yᵀc for each viewer, with the confidences c = W + 1 that fitting uses, G the
        gramian and Y the L videos of the history. A history is shorter than a vector, so it is solved as
        x = G⁻¹Yᵀz with (I + W·YG⁻¹Yᵀ) z = c, a system of L equations instead of d (push-through identity).
        """
        vectors = np.zeros((len(histories), self.factors.shape[1]), np.float32)
        length = histories.mask.sum(axis=1)
        order = np.argsort(length, kind="stable")  # like with like: a system is as large as the longest needs
        for at in range(0, len(histories), CHUNK):
            part = order[at : at + CHUNK]
            vectors[part] = self._solve(histories[part].newest(int(length[part].max())))
        return vectors

    def contributions(self, histories: Histories, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """What each entry of one viewer's history (B = 1) adds to the scores of videos, float32[k, L].

        rows: int[k]. A row of the result sums to the video's product with :meth:`fold_in`'s vector.
        """
        spread, shares = self._parts(histories)
        return np.asarray(self.factors[rows] @ (spread[0] * shares[0]).T, dtype=np.float32)

    def _solve(self, histories: Histories) -> NDArray[np.float32]:
        spread, shares = self._parts(histories)
        return np.asarray((spread * shares).sum(axis=1), dtype=np.float32)

    def _parts(self, histories: Histories) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """G⁻¹Yᵀ by entry, float32[B, L, d], and z, float32[B, L, 1]; 0 where an entry has no say."""
        liked = histories.mask & (histories.strength > 0) & (histories.rows < len(self.factors))
        rows = np.where(liked, histories.rows, 0)
        value = confidence(histories.strength, histories.age_s, self.weight[rows], self.config)
        value = np.where(liked, value, 0)
        engaged = self.factors[rows]  # (B, L, d)
        spread = engaged @ self.inverse
        systems = np.matmul(spread, engaged.transpose(0, 2, 1))  # (B, L, L)
        systems *= np.where(liked, value - 1, 0)[..., None]
        systems += np.eye(systems.shape[1], dtype=np.float32)
        return spread, np.linalg.solve(systems, value[..., None])

    def save(self, folder: Path) -> None:
        """Write a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "factors.npy", self.factors)
        np.save(folder / "weight.npy", self.weight)
        np.save(folder / "gramian.npy", self.gramian)
        (folder / "als.json").write_text(json.dumps({"ridge": self.ridge, **asdict(self.config)}, indent=2))

    @classmethod
    def load(cls, folder: Path) -> "AlsModel":
        """Read what :meth:`save` wrote; the factors are memory-mapped."""
        with reading("ALS model", folder, "als.json", remedy="run `upnext step als` first"):
            meta = json.loads((folder / "als.json").read_text())
            ridge = float(meta.pop("ridge"))
            factors = np.load(folder / "factors.npy", mmap_mode="r")
            model = cls(factors, np.load(folder / "weight.npy"), ridge, AlsConfig(**meta))
            if (folder / "gramian.npy").is_file():  # to compute it would bring all factors into memory
                vars(model)["gramian"] = np.load(folder / "gramian.npy")
            return model


def confidence(
    strength: NDArray[np.floating],
    age_s: NDArray[np.floating],
    weight: NDArray[np.floating],
    config: AlsConfig,
) -> NDArray[np.float32]:
    """1 + weight·strength, decayed by age where the configuration says so. All arguments broadcast."""
    decay = 1.0 if config.half_life_days is None else 0.5 ** (age_s / (config.half_life_days * DAY_S))
    return np.asarray(1 + weight * strength * decay, dtype=np.float32)


def _weights(engagements: NDArray[np.int64], config: AlsConfig) -> NDArray[np.float32]:
    """float32[n], alpha scaled down for videos that many engaged with and up for those that few did."""
    share = np.maximum(engagements, 1) / engagements[engagements > 0].mean()
    return np.asarray(config.alpha * share**-config.popularity_power, dtype=np.float32)
