"""The ranker's examples completed with what the retrievers say of them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.examples import logged_file
from components.logged import LoggedCross
from components.pipeline import Job
from models.als import AlsModel
from models.crosses import LENGTH, Crosses, Viewers
from models.dataset import Dataset
from models.popularity import Popularity
from models.rank_data import RankData
from models.towers import Towers
from upnext.ports import Lake


def rank_data(
    job: Job, data: Dataset, lake: Lake, parts: Sequence[str] = ("train", "valid")
) -> list[RankData]:
    """Examples of each part with their cross features, which see only what was known at their time.

    The retrievers were fitted on what came before the ranker's window, popularity is of its start. Logged
    features take the place of computed ones (:mod:`components.logged`).
    """
    als, towers = AlsModel.load(job.input("als") / "model"), Towers.load(job.input("two_tower") / "model")
    outcomes = lake.read("outcomes")
    popularity = Popularity.of(outcomes, data.catalogue, data.split.history_end)
    crosses = Crosses(data.catalogue, als.factors, towers.items, popularity)
    users = lake.read("users", ["user_id", "region", "language"])
    place = pc.index_in(pa.array(data.users), users["user_id"].combine_chunks())
    region = crosses.region_codes(users["region"].combine_chunks().take(place).to_pylist())
    language = crosses.language_codes(users["language"].combine_chunks().take(place).to_pylist())

    def complete(part: str) -> RankData:
        rows = data.examples[part]
        _, first, viewer = np.unique(
            np.stack([rows.user.astype(np.int64), rows.ts]), axis=1, return_index=True, return_inverse=True
        )
        user, ts = rows.user[first], rows.ts[first]
        histories = data.interactions.histories(user, ts, LENGTH)
        viewers = Viewers(
            histories=histories,
            als=als.fold_in(histories),
            tower=towers.encode(histories),
            now=ts,
            region=region[user],
            language=language[user],
        )
        logged = LoggedCross.load(logged_file(job.input("examples"), part))
        return RankData.of(rows, logged.over(crosses.pairs(viewers, viewer.ravel(), rows.video)))

    return [complete(part) for part in parts]
