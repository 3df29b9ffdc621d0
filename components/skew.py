"""Step ``skew``: features as serving logged them beside the same computed from the lake.

Both are of the same moment: stored features of the snapshot that serving had (one that has come since is
staleness, not skew), context and cross features of what the lake's events say had happened by then, with the
models of the release that served. What differs is a bug on one of the two sides, or an event that reached one
of them late.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from components.feature_log import TABLE
from components.pipeline import Job, Outcome
from components.recompute import Compared, LeftOut, Recompute
from models.bundle import Bundle
from upnext.contracts import LOGGED_FEATURES
from upnext.errors import NotFound, ReleaseError, SkewFound
from upnext.ports import Lake
from upnext.releases import Releases
from upnext.settings import Settings
from upnext.stores import connect

SAMPLE = 20_000
"""Logged rows compared, of the newest days."""
TOLERANCE = 1e-3
"""Distance that does not count, in units of the feature's spread."""
ROUNDING = 2.0**-10
"""The same in units of the value itself: twice what float16 rounds by."""
WORST = 3
"""Examples told of a feature."""


@dataclass(frozen=True)
class FeatureSkew:
    """How one feature's logged values compare with the recomputed ones."""

    block: str
    name: str
    compared: int
    share: float
    """Of the values, those further apart than TOLERANCE and ROUNDING, or known on one side only."""
    distance: float
    """Mean absolute difference of what both know, in standard deviations of the recomputed values."""
    worst: list[dict[str, object]]
    """The values that differ most: request_id, user_id, video_id, logged, recomputed (None: unknown)."""


@dataclass(frozen=True)
class SkewReport:
    """Every feature that could be compared, the worst first."""

    features: list[FeatureSkew]
    rows: int
    """Logged rows that were compared."""
    left_out: dict[str, int]
    """Logged rows that were not, wholly or in part, by reason."""

    def above(self, threshold: float) -> list[FeatureSkew]:
        """Features of which more than a share of the values differ."""
        return [feature for feature in self.features if feature.share > threshold]

    def refused(self, threshold: float) -> SkewFound | None:
        """The error that names each feature above a threshold; None where there is none."""
        found = self.above(threshold)
        if not found:
            return None
        named = ", ".join(f"{each.block}.{each.name} ({each.share:.1%})" for each in found)
        return SkewFound(
            f"{len(found)} features differ between serving and the lake in more than {threshold:.1%} of "
            f"{self.rows} rows: {named}; `upnext skew --json` shows examples"
        )

    def require(self, threshold: float) -> None:
        """Raise what :meth:`refused` says."""
        if (error := self.refused(threshold)) is not None:
            raise error

    @property
    def metrics(self) -> dict[str, float]:
        """Figures for MLflow."""
        worst = max((each.share for each in self.features), default=0.0)
        told = {"rows": float(self.rows), "worst_share": worst}
        for each in self.features:
            name = f"{each.block}.{each.name}"
            told |= {f"share.{name}": each.share, f"distance.{name}": each.distance}
        return told


def skew(job: Job) -> Outcome:
    """Logged features against recomputed ones; refused where one is above the setting's threshold."""
    with connect(job.settings) as stores:
        report = skew_of(stores.lake, released(job.settings), job.settings.history_days)
    if not report.rows:
        return Outcome(details={"left_out": report.left_out})
    (job.out / "skew.json").write_text(json.dumps(asdict(report), indent=1))
    threshold = job.settings.skew_threshold
    return Outcome(
        report.metrics,
        params={"threshold": threshold},
        details={"left_out": report.left_out},
        refused=report.refused(threshold),
    )


def released(settings: Settings) -> Callable[[str], Bundle]:
    """Loads a registered release by its version."""
    releases = Releases(settings)
    return lambda version: Bundle.load(releases.resolve(version).path, verify=False)


def skew_of(lake: Lake, load: Callable[[str], Bundle], history_days: int, sample: int = SAMPLE) -> SkewReport:
    """Compare the newest logged rows, release by release; ``load`` gives a release's bundle."""
    logged = _newest(lake, sample)
    left_out: Counter[str] = Counter()
    compared: list[Compared] = []
    rows = 0
    for version in pc.unique(logged["release"]).to_pylist():
        of_release = logged.filter(pc.equal(logged["release"], version))
        try:
            bundle = load(version)
        except (NotFound, ReleaseError):
            left_out["release is not to be had"] += len(of_release)
            continue
        mine = of_release.filter(pc.equal(of_release["schema"], bundle.scorer.schema.hash))
        left_out["schema is not its release's"] += len(of_release) - len(mine)
        rows += len(mine)
        for block in Recompute(lake, bundle, mine, history_days).blocks() if len(mine) else ():
            if isinstance(block, LeftOut):
                left_out[block.reason] += block.rows
            else:
                compared.append(block)
    return SkewReport(_features(compared), rows, {reason: n for reason, n in left_out.items() if n})


def _newest(lake: Lake, most: int) -> pa.Table:
    """Rows of the newest days, ``most`` of them at most."""
    days = lake.partitions(TABLE, "date")
    if not days:
        return LOGGED_FEATURES.empty_table()
    logged, parts, left = lake.scan(TABLE), [LOGGED_FEATURES.empty_table()], most
    for day in reversed(days):
        of_day = logged.scanner(columns=LOGGED_FEATURES.names, filter=ds.field("date") == day)
        parts.append(of_day.head(left).cast(LOGGED_FEATURES))
        left -= len(parts[-1])
        if left <= 0:
            break
    return pa.concat_tables(parts)


def _features(compared: Sequence[Compared]) -> list[FeatureSkew]:
    """Each feature over all releases that have it, the worst first."""
    columns: dict[tuple[str, str], list[tuple[Compared, int]]] = {}
    for each in compared:
        for place, name in enumerate(each.names):
            columns.setdefault((each.block, name), []).append((each, place))
    found = [_feature(*key, parts) for key, parts in columns.items()]
    return sorted(found, key=lambda each: (-each.share, -each.distance, each.block, each.name))


def _feature(block: str, name: str, parts: Sequence[tuple[Compared, int]]) -> FeatureSkew:
    logged = np.concatenate([each.logged[:, place] for each, place in parts]).astype(np.float64)
    recomputed = np.concatenate([each.recomputed[:, place] for each, place in parts]).astype(np.float64)
    apart, differs, distance = _compare(logged, recomputed)
    worst = np.argsort(-np.where(differs, apart, -1), kind="stable")[: min(WORST, int(differs.sum()))]
    rows = pa.concat_tables([each.rows.select(["request_id", "user_id", "video_id"]) for each, _ in parts])
    examples = [
        {**row, "logged": _known(logged[place]), "recomputed": _known(recomputed[place])}
        for place, row in zip(worst, rows.take(pa.array(worst)).to_pylist(), strict=True)
    ]
    return FeatureSkew(block, name, len(logged), float(differs.mean()), distance, examples)


def _compare(
    logged: NDArray[np.float64], recomputed: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], float]:
    """Distances of n values in spreads (infinite where one side is unknown), which differ, and their mean.

    A feature that is the same everywhere has no spread; it is measured by its own size, 1 at least.
    """
    unknown = np.isnan(logged) | np.isnan(recomputed)
    known = recomputed[~np.isnan(recomputed)]
    spread = float(known.std()) if len(known) else 0.0
    if spread <= 1e-12:
        spread = max(float(np.abs(known).max(initial=0.0)), 1.0)
    apart = np.where(unknown, np.inf, np.abs(logged - recomputed) / spread)
    apart[np.isnan(logged) & np.isnan(recomputed)] = 0.0
    allowed = TOLERANCE + ROUNDING * np.abs(np.nan_to_num(recomputed)) / spread
    both = apart[~unknown]
    return apart, apart > allowed, float(both.mean()) if len(both) else 0.0


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
