"""How the ranker and the retrievers make one order, fitted on the validation window.

What is fitted on is what the funnel itself would have found and ranked when the window began, by models that
knew nothing of it, and what its viewers newly watched in it.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.pipeline import Job, Outcome
from components.recommending import recommend
from components.release import bind
from models.blend import SIGNALS, Blend, standardised
from models.blend_fit import RIDGE, Pools, choose
from models.checks import require_positive
from models.dataset import Dataset
from upnext.errors import EmptyData
from upnext.times import moment

CANDIDATES = 1_000
"""Of a viewer, at most."""


@dataclass(frozen=True)
class BlendConfig:
    """How the blend is fitted."""

    users: int = 1_500
    """Viewers of the validation window at most, drawn at random."""
    ridge: float = RIDGE
    """Strength of the pull to the default, in viewers."""
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "users", "ridge")


@dataclass(frozen=True)
class Wanted:
    """What viewers, by ids, newly watched in the validation window.

    key: int64[m] ascending, place of the viewer · videos + video; long_view float64[m], 1 or 0; seconds
    float64[m], 0 where unknown.
    """

    users: list[str]
    videos: int
    key: NDArray[np.int64]
    long_view: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @classmethod
    def of(cls, data: Dataset, sample: int, seed: int) -> Self:
        """Of viewers who watched something for more than half; EmptyData where nobody did."""
        rows, videos = data.examples["valid"], len(data.catalogue)
        known = data.interactions.before(data.split.valid_start)
        met = known.user.astype(np.int64) * videos + known.video
        new = ~np.isin(rows.user.astype(np.int64) * videos + rows.video, met)
        users = np.unique(rows.user[new & (rows.labels["long_view"] == 1)])
        if not len(users):
            raise EmptyData("nobody newly watched a video for more than half in the validation window")
        if len(users) > sample:
            users = np.sort(np.random.default_rng(seed).choice(users, sample, replace=False))
        place = np.full(len(data.users), -1, np.int64)
        place[users] = np.arange(len(users))
        kept = new & (place[rows.user] >= 0)
        key, at = np.unique(place[rows.user[kept]] * videos + rows.video[kept], return_inverse=True)
        gains = {name: np.zeros(len(key)) for name in ("long_view", "watch_s")}
        for name, most in gains.items():
            np.maximum.at(most, at, np.nan_to_num(rows.labels[name][kept]))
        return cls([data.users[user] for user in users], videos, key, gains["long_view"], gains["watch_s"])

    def gains(
        self, user: NDArray[np.int64], video: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Long views and seconds, float64[k] each, of pairs by the viewer's place and catalogue row."""
        key = user * self.videos + video
        at = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        there = self.key[at] == key
        return np.where(there, self.long_view[at], 0.0), np.where(there, self.seconds[at], 0.0)


def blend(job: Job) -> Outcome:
    """The funnel as the validation window began, and what was watched in it -> weights of its signals."""
    config = job.config("blend", BlendConfig)
    data = Dataset.load(job.input("examples"))
    try:
        wanted = Wanted.of(data, config.users, config.seed)
        chosen, about = choose(_pools(job, data, wanted), config.ridge)
    except EmptyData as error:
        chosen, about = Blend(), {"kept": "default", "why": str(error)}
    chosen.save(job.out / "blend.json")
    return Outcome(
        {f"weight.{name}": value for name, value in chosen.to_dict().items()}
        | {name: about[name][1] for name in ("likelihood", "long_views", "seconds") if name in about},
        {**asdict(config), "kept": about["kept"]},
        details=about,
    )


def _pools(job: Job, data: Dataset, wanted: Wanted) -> Pools:
    at, ids = moment(data.split.valid_start), data.catalogue.table["video_id"].combine_chunks()
    with TemporaryDirectory(dir=job.out) as folder:
        work = Path(folder)
        bundle = bind(job, work / "bundle", at, retrievers="before_valid")
        asked = (bundle, wanted.users, at, ("funnel",), work / "pools.parquet")
        table = recommend(*asked, stage="ranking", count=CANDIDATES, signals=True)
        return pools_of(table, wanted, ids)


def pools_of(table: pa.Table, wanted: Wanted, ids: pa.Array) -> Pools:
    """From columns user_id, position, video_id and SIGNALS, and the catalogue's ids in row order."""
    user = pc.index_in(table["user_id"], pa.array(wanted.users)).to_numpy().astype(np.int64)
    video = pc.index_in(table["video_id"], ids).to_numpy().astype(np.int64)
    place = table["position"].to_numpy()
    shape = len(wanted.users), int(place.max(initial=0)) + 1
    held = np.zeros(shape, np.bool_)
    held[user, place] = True
    signals = np.zeros((*shape, len(SIGNALS)), np.float32)
    signals[user, place] = table.select(SIGNALS).to_pandas().to_numpy(np.float32)
    for line, there in zip(signals, held, strict=True):
        line[there] = standardised(line[there].T).T
    gains = (np.zeros(shape), np.zeros(shape))
    for out, values in zip(gains, wanted.gains(user, video), strict=True):
        out[user, place] = values
    return Pools(signals, held, *gains)
