"""The ranker's examples completed with what the retrievers and the event log say of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.examples import load_layouts, logged_file
from components.logged import LoggedCross
from components.moments import Moments
from components.pipeline import Job
from components.visual_table import visual_of
from feature_repo.request import CANDIDATE_NAMES, CONTEXT, of_candidates, places, ranker_schema
from feature_repo.specs import USER, VIDEO
from models import viewer_inputs
from models.affinity import Affinities
from models.als import FOLDED, AlsModel
from models.bundle import Manifest
from models.crosses import LENGTH, VOTERS, Crosses, Viewers
from models.dataset import Dataset, Examples
from models.layout import FeatureLayout
from models.neighbours import Neighbours
from models.popularity import Popularity
from models.rank_data import Pasts, RankData, RankSchema
from models.rank_train import RankerConfig, Timing
from models.ranker import fit
from models.ranker_ddp import fit_in_processes
from models.scorer import Scorer
from models.towers import Towers
from upnext.ports import Lake
from upnext.releases import Releases
from upnext.settings import Settings


def champion_ranker(settings: Settings, before: datetime) -> tuple[str, Path | None]:
    """The champion's version and the folder of its ranker, to go on from; nothing where there is none.

    Nor where it has learned from what happened at ``before`` or later: what is judged must not know the
    hold-out.
    """
    releases = Releases(settings)
    version = releases.version("champion")
    if version is None:
        return "none", None
    folder = releases.resolve(version).path
    return ("none", None) if Manifest.read(folder).learned_until > before else (version, folder / "ranker")


def train_ranker(
    job: Job,
    train: RankData,
    valid: RankData,
    schema: RankSchema,
    config: RankerConfig,
    told: Callable[[int, int], None],
    before: datetime,
) -> tuple[dict[str, Any], Timing, str]:
    """Write the interval's ranker; its report, what training took, and the version that it went on from.

    before: the hold-out's start, see :func:`champion_ranker`.
    """
    version, start = champion_ranker(job.settings, before)
    folder = job.out / "model"
    if config.processes > 1:
        with TemporaryDirectory(dir=job.out) as shared:
            made, timing = fit_in_processes(train, valid, schema, config, start, Path(shared))
            made.rename(folder)
    else:
        model = fit(train, valid, schema, config, start, lambda epoch, *_: told(epoch, config.epochs))
        model.save(folder, valid)
        timing = model.timing
    report: dict[str, Any] = Scorer.load(folder).meta["report"]
    return report, timing, version if report["warm_start"] else "none"


@dataclass(frozen=True)
class Completer:
    """Adds to examples what is computed per request, which sees only what was known at their time.

    The retrievers were fitted on what came before the ranker's window, popularity is of its start; what
    streams say is of the moment before each example.
    region, language: int32[n_users], as :class:`models.crosses.Viewers` wants them
    places: int64[n_users, 2], devices and regions as the user tower wants them
    """

    data: Dataset
    als: AlsModel
    towers: Towers
    crosses: Crosses
    moments: Moments
    affinities: Affinities
    region: NDArray[np.int32]
    language: NDArray[np.int32]
    places: NDArray[np.int64]
    layouts: Mapping[str, FeatureLayout]
    schema: RankSchema

    @classmethod
    def of(cls, job: Job, data: Dataset, lake: Lake) -> Self:
        layouts = load_layouts(job.input("examples"))
        als = AlsModel.load(job.input("als") / "model")
        towers = Towers.load(job.input("two_tower") / "model")
        split, catalogue = data.split, data.catalogue
        popularity = Popularity.of(lake.read("outcomes"), catalogue, split.history_end)
        visual = visual_of(lake, catalogue.ids)
        neighbours = Neighbours.load(job.input("als") / "neighbours")
        looks = visual if visual.any() else None
        crosses = Crosses(catalogue, als.factors, towers.items, popularity, neighbours, looks)
        users = lake.read("users", ["user_id", "region", "language"])
        place = pc.index_in(pa.array(data.users), users["user_id"].combine_chunks())
        return cls(
            data=data,
            als=als,
            towers=towers,
            crosses=crosses,
            moments=Moments.of(lake, catalogue, data.users, split.history_end, split.until),
            affinities=Affinities.of(layouts[USER.name].names, layouts[VIDEO.name].names),
            region=crosses.region_codes(users["region"].combine_chunks().take(place).to_pylist()),
            language=crosses.language_codes(users["language"].combine_chunks().take(place).to_pylist()),
            places=viewer_places(lake, data.users),
            layouts=layouts,
            schema=replace(ranker_schema(layouts), vector=towers.embeddings.shape[1]),
        )

    def viewers(self, user: NDArray[np.int32], ts: NDArray[np.int64]) -> Viewers:
        """Users int32[B] as they were just before times int64[B]."""
        histories = self.data.interactions.histories(user, ts, VOTERS)
        recent = histories.newest(LENGTH)
        return Viewers(
            histories=histories,
            als=self.als.fold_in(histories.newest(FOLDED)),
            tower=self.towers.encode(recent, viewer_inputs.context(ts, self.places[user])),
            now=ts,
            region=self.region[user],
            language=self.language[user],
        )

    def part(self, job: Job, name: str) -> RankData:
        """One part of the examples; logged features take the place of computed ones (components.logged)."""
        read = self.complete(self.data.examples[name])
        logged = LoggedCross.load(logged_file(job.input("examples"), name))
        return replace(read, cross=logged.over(read.cross, self.schema.cross))

    def complete(self, rows: Examples) -> RankData:
        """Any examples, in the columns that the ranker reads."""
        _, first, viewer = np.unique(
            np.stack([rows.user.astype(np.int64), rows.ts]), axis=1, return_index=True, return_inverse=True
        )
        viewer = viewer.ravel().astype(np.int32)
        viewers = self.viewers(rows.user[first], rows.ts[first])
        _, query = self.moments.searches.latest(rows.user, rows.ts)
        candidates = of_candidates(
            self.crosses.pairs(viewers, viewer, rows.video),
            self.affinities.features(rows.user_features, rows.video_features, query),
            self.moments.videos.features(rows.video, rows.ts),
            self.moments.users.features(rows.user, rows.ts),
        )
        pasts = Pasts(self.towers.embeddings, viewers.histories.newest(LENGTH), viewer, rows.video)
        return _read(RankData.of(rows, candidates, pasts), self.schema, self.layouts)


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
