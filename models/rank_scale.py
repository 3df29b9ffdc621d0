"""How the ranker's numeric inputs are put on one scale. Free of torch: serving does it as training did."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from upnext.errors import CorruptData

CLIP = 20.0  # standard deviations; the best candidates' scores lie far above those of sampled videos
SAMPLE = 100_000  # rows that are enough for a mean and a spread


@dataclass(frozen=True)
class Scale:
    """Of d columns, found on the training rows.

    log: bool[d], sign(x)·log(1 + |x|) is taken first; mean, std: float32[d], after that;
    missing: int64[M], columns that are sometimes unknown and get an indicator.
    """

    log: NDArray[np.bool_]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    missing: NDArray[np.int64]

    @classmethod
    def of(cls, rows: NDArray[np.float32]) -> Self:
        """From float32[N, d]; the logarithm is taken of columns whose tails it shortens.

        Some SAMPLE rows, evenly spaced, give the moments; all of them tell what is ever unknown.
        """
        missing = np.flatnonzero(~np.isfinite(rows).all(axis=0))
        rows = rows[:: max(1, len(rows) // SAMPLE)]
        plain = np.where(np.isfinite(rows), rows, np.nan).astype(np.float64)
        logged = np.sign(plain) * np.log1p(np.abs(plain))
        log = _kurtosis(logged) < _kurtosis(plain)
        chosen = np.where(log, logged, plain)
        mean, std = _moments(chosen)
        return cls(log, mean.astype(np.float32), np.where(std > 1e-6, std, 1).astype(np.float32), missing)

    @property
    def width(self) -> int:
        """Columns of what :meth:`apply` gives, d + M."""
        return len(self.mean) + len(self.missing)

    def apply(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[N, d] with NaN to float32[N, d + M] without: standardised, then what was unknown."""
        known = np.isfinite(rows)
        logged = np.copysign(np.log(np.abs(rows) + 1), rows)  # numpy's log1p is not vectorised
        scaled = np.where(self.log, logged, rows)
        with np.errstate(over="ignore"):
            scaled -= self.mean
            scaled /= self.std
        np.clip(scaled, -CLIP, CLIP, out=scaled)
        bits = scaled.view(np.int32)
        bits *= known  # of floats, NaN times 0 is NaN; choosing by a mask costs a branch for each value
        return np.concatenate([scaled, ~known[:, self.missing]], axis=1, dtype=np.float32)

    def to_dict(self) -> dict[str, list[Any]]:
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, parsed: dict[str, Any]) -> Self:
        """What :meth:`to_dict` gave; CorruptData when it is something else."""
        try:
            return cls(
                np.asarray(parsed["log"], np.bool_),
                np.asarray(parsed["mean"], np.float32),
                np.asarray(parsed["std"], np.float32),
                np.asarray(parsed["missing"], np.int64),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptData(f"not the scale of the ranker's inputs: {error}") from error


def _moments(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = ~np.isnan(rows)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, rows, 0).sum(axis=0) / count
    return mean, np.sqrt(np.where(known, (rows - mean) ** 2, 0).sum(axis=0) / count)


def _kurtosis(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    mean, std = _moments(rows)
    scaled = np.where(np.isnan(rows), 0, rows - mean) / np.maximum(std, 1e-9)
    return np.asarray((scaled**4).mean(axis=0)) if len(rows) else np.zeros(rows.shape[1])
