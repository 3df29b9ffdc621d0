"""The ranker's examples completed with what the retrievers and the event log say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.examples import load_layouts, logged_file
from components.logged import LoggedCross
from components.moments import Moments
from components.pipeline import Job
from feature_repo.request import CANDIDATE_NAMES, CONTEXT, of_candidates, places, ranker_schema
from feature_repo.specs import USER, VIDEO
from feature_repo.vectors import VISUAL_TABLE, looks
from models import viewer_inputs
from models.affinity import Affinities
from models.als import AlsModel
from models.crosses import LENGTH, Crosses, Viewers
from models.dataset import Dataset
from models.layout import FeatureLayout
from models.popularity import Popularity
from models.rank_data import RankData, RankSchema
from models.towers import Towers
from upnext.ports import Lake


def rank_data(
    job: Job, data: Dataset, lake: Lake, parts: Sequence[str] = ("train", "valid")
) -> list[RankData]:
    """Examples of each part with what is computed per request, which sees only what was known at their time.

    The retrievers were fitted on what came before the ranker's window, popularity is of its start; what
    streams say is of the moment before each example. Logged features take the place of computed ones
    (:mod:`components.logged`).
    """
    layouts = load_layouts(job.input("examples"))
    schema = ranker_schema(layouts)
    als, towers = AlsModel.load(job.input("als") / "model"), Towers.load(job.input("two_tower") / "model")
    outcomes = lake.read("outcomes")
    popularity = Popularity.of(outcomes, data.catalogue, data.split.history_end)
    crosses = Crosses(data.catalogue, als.factors, towers.items, popularity, _visual(lake, data))
    where = viewer_places(lake, data.users)
    users = lake.read("users", ["user_id", "region", "language"])
    place = pc.index_in(pa.array(data.users), users["user_id"].combine_chunks())
    region = crosses.region_codes(users["region"].combine_chunks().take(place).to_pylist())
    language = crosses.language_codes(users["language"].combine_chunks().take(place).to_pylist())
    split, catalogue = data.split, data.catalogue
    moments = Moments.of(lake, catalogue, data.users, split.history_end, split.until)
    affinities = Affinities.of(layouts[USER.name].names, layouts[VIDEO.name].names)

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
            tower=towers.encode(histories, viewer_inputs.context(ts, where[user])),
            now=ts,
            region=region[user],
            language=language[user],
        )
        _, query = moments.searches.latest(rows.user, rows.ts)
        candidates = of_candidates(
            crosses.pairs(viewers, viewer.ravel(), rows.video),
            affinities.features(rows.user_features, rows.video_features, query),
            moments.videos.features(rows.video, rows.ts),
            moments.users.features(rows.user, rows.ts),
        )
        read = _read(RankData.of(rows, candidates), schema, layouts)
        logged = LoggedCross.load(logged_file(job.input("examples"), part))
        return replace(read, cross=logged.over(read.cross, schema.cross))

    return [complete(part) for part in parts]


def _visual(lake: Lake, data: Dataset) -> NDArray[np.float32] | None:
    if lake.version(VISUAL_TABLE) < 0:
        return None
    return looks(data.catalogue.table["video_id"].combine_chunks(), lake.read(VISUAL_TABLE))


def _read(rows: RankData, schema: RankSchema, layouts: Mapping[str, FeatureLayout]) -> RankData:
    """The columns that the ranker reads of each block."""
    names = {
        "user": layouts[USER.name].names,
        "video": layouts[VIDEO.name].names,
        "context": layouts[CONTEXT].names,
        "cross": CANDIDATE_NAMES,
    }
    return replace(
        rows,
        **{name: getattr(rows, name)[:, places(all_, schema.block(name))] for name, all_ in names.items()},
    )


def viewer_places(lake: Lake, users: Sequence[str]) -> NDArray[np.int64]:
    """int64[n_users, 2], devices and regions that the profiles tell, for the user tower; 0 unknown."""
    told = lake.read("users", ["user_id", "device", "region"])
    at = pc.index_in(pa.array(users, pa.string()), told["user_id"].combine_chunks())
    device, region = (told[name].combine_chunks().take(at).to_pylist() for name in ("device", "region"))
    return viewer_inputs.places(device, region)
