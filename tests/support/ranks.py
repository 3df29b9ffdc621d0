"""Made-up rows for the ranker, with what it should learn planted in them."""

from dataclasses import replace

import numpy as np

from models.history import Histories
from models.rank_data import Pasts, RankData, RankSchema
from models.ranker import RankerConfig

SCHEMA = RankSchema(
    user=("u0", "u1", "u2"), video=("v0", "v1"), context=("c0",), cross=("x0", "x1"), video_layout="abc"
)
CONFIG = RankerConfig(epochs=12, batch_size=256, width=32, experts=2, rank=8, learning_rate=5e-3, bins=8)


def planted(rows: int, seed: int) -> RankData:
    """Clicks follow u0·v0, which no single input tells; half the rows were not shown."""
    rng = np.random.default_rng(seed)
    user, video, context, cross = (rng.normal(size=(rows, width)).astype("f4") for width in (3, 2, 1, 2))
    shown = rng.random(rows) < 0.5
    position = np.where(shown, rng.integers(0, 10, rows), -1).astype("i4")
    logit = 2.5 * user[:, 0] * video[:, 0] - 0.2 * np.maximum(position, 0)
    click = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype("f4")
    seconds = np.where(click > 0, np.exp(2 + cross[:, 0] + 0.3 * rng.normal(size=rows)), 0).astype("f4")
    video[rng.random(video.shape) < 0.02] = np.nan
    cross[:, 1] = np.exp(3 * cross[:, 1])  # a heavy tail
    rare = (rng.random(rows) < 0.03).astype("f4")

    def of_shown(label: np.ndarray, else_: float) -> np.ndarray:
        return np.where(shown, label, else_).astype("f4")

    labels = {
        "click": of_shown(click, 0),
        "long_view": of_shown(click * (seconds > 7), 0),
        "like": of_shown(click * rare, np.nan),
        "share": of_shown(np.zeros(rows), np.nan),
        "not_interested": np.full(rows, np.nan, "f4"),
        "watch_s": of_shown(seconds, np.nan),
    }
    return RankData(user, context, video, cross, position, shown, labels)


HISTORY_SCHEMA = replace(SCHEMA, vector=4)


def planted_in_history(rows: int, seed: int) -> RankData:
    """Clicks follow whether the video of the history is of the candidate's kind; some have no history."""
    rng = np.random.default_rng(seed)
    data = planted(rows, seed)
    viewers, kinds = max(rows // 5, 1), 4
    vectors = np.eye(kinds, dtype="f4")[np.arange(40) % kinds] + rng.normal(0, 0.1, (40, kinds)).astype("f4")
    past = rng.integers(0, 40, (viewers, 1)).astype("i4")
    past[rng.random(viewers) < 0.2] = -1
    known = (past >= 0).astype("f4")
    histories = Histories(past, known, 1e4 * known)
    viewer = (np.arange(rows) % viewers).astype("i4")
    video = rng.integers(0, 40, rows).astype("i4")
    alike = (known[viewer, 0] > 0) & (past[viewer, 0] % kinds == video % kinds)
    click = np.where(data.shown, rng.random(rows) < np.where(alike, 0.9, 0.1), 0).astype("f4")
    labels = {**data.labels, "click": click}
    per_viewer = {name: getattr(data, name)[viewer] for name in ("user", "context")}
    return replace(data, **per_viewer, labels=labels, pasts=Pasts(vectors, histories, viewer, video))
