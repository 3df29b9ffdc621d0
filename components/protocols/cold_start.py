"""Videos held out of training altogether: can their content alone bring them to those who will watch them?

A tenth of the videos that anyone engaged with is left out of everything that is learned from, and comes back
as uploads of the last moment: with title, tags, category, creator, duration and thumbnail, and nothing else.
The towers make their vectors as serving makes those of uploads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.protocols.prepared import Prepared
from components.protocols.ranking import Score, popularity_of, rank
from components.protocols.report import Report
from components.training import viewer_places
from components.visual_table import visual_of
from models import metrics
from models.als import FOLDED, AlsConfig, AlsModel
from models.catalogue import Catalogue
from models.content_start import content_start, explained
from models.dataset import Interactions
from models.history import Histories
from models.metrics import Truth
from models.tower_export import export
from models.two_tower import TwoTowerConfig, train
from models.video_inputs import VideoInputs
from models.viewer_inputs import context
from upnext.contracts import VIDEOS, UtcTime
from upnext.stores import connect

SHARE = 0.1
"""Of the videos that are held out."""
WHOLE, AMONG = 500, 50
"""Places that count in the whole catalogue, and among the held-out videos alone."""
RESERVED = 100
"""Of the places in the whole catalogue, those that the retriever ``uploads`` fills: a fifth."""
RECENT = 32
"""Videos of a history that tell of a viewer's categories."""
TOWERS, CHANCE = "two_tower", "random"
KNOWN = "als, had others watched them"
"""What a history is worth: all but the judged users' own watches of the held-out videos is learned from."""


def cold_start(prepared: Prepared) -> Report:
    """Recall of held-out videos by the towers, by linear models of content, by popularity, by chance."""
    report, on = Report("cold-start", prepared.job.source), _Split.of(prepared)
    report.notes.append(f"{on.held.sum()} of {len(on.held)} videos held out, {len(on.users)} users")
    scores = _scores(prepared, on)
    among = {name: on.ranked(_only(score, on.held), max(AMONG, RESERVED)) for name, score in scores.items()}
    whole = {name: on.ranked(score, WHOLE) for name, score in scores.items()}
    served = {name: reserved(whole[name], among[name], RESERVED) for name in (TOWERS, CHANCE)}
    report.add(f"recall@{WHOLE}, whole catalogue", on.recall(whole, WHOLE), CHANCE)
    report.add(f"recall@{WHOLE}, of which {RESERVED} places are reserved", on.recall(served, WHOLE), CHANCE)
    report.add(f"recall@{AMONG}, among the held-out videos", on.recall(among, AMONG), CHANCE)
    taken = {name: on.held[rows].mean(axis=1) for name, rows in whole.items()}
    report.add(f"share of the {WHOLE} places that held-out videos take", taken)
    return report


@dataclass(frozen=True)
class _Split:
    """held: bool[n], the videos; warm: what is learned from; wanted: what was liked of the held-out videos by
    the users who are judged on, int64[U], codes, ascending."""

    held: NDArray[np.bool_]
    warm: Interactions
    wanted: Interactions
    users: NDArray[np.int64]

    @classmethod
    def of(cls, prepared: Prepared) -> "_Split":
        log, rng = prepared.data.interactions, np.random.default_rng(prepared.seed)
        held = np.zeros(len(prepared.data.catalogue), np.bool_)
        met = np.unique(log.video)
        held[rng.choice(met, max(1, round(SHARE * len(met))), replace=False)] = True
        warm = log.where(~held[log.video])
        wanted = log.where(held[log.video] & log.newest & (log.strength > 0))
        users = np.intersect1d(wanted.user, warm.user).astype(np.int64)
        if len(users) > prepared.sample:
            users = np.sort(rng.choice(users, prepared.sample, replace=False))
        return cls(held, warm, wanted.where(np.isin(wanted.user, users)), users)

    @cached_property
    def truth(self) -> Truth:
        place, ones = np.searchsorted(self.users, self.wanted.user), np.ones(len(self.wanted))
        return Truth.of(place, self.wanted.video, ones, len(self.users), len(self.held))

    @property
    def now(self) -> int:
        """The moment after the last of what is learned from, microseconds."""
        return int(self.warm.ts.max()) + 1

    def ranked(self, score: Score, k: int) -> NDArray[np.int32]:
        return rank(score, self.users, self.warm, k, len(self.held))

    def recall(self, ranked: Mapping[str, NDArray[np.int32]], k: int) -> dict[str, NDArray[np.float64]]:
        return {name: metrics.recall(rows, self.truth, k) for name, rows in ranked.items()}


def reserved(whole: NDArray[np.int32], among: NDArray[np.int32], places: int) -> NDArray[np.int32]:
    """int32[U, k]: the best of ``among`` [U, ≥ places] in so many places, the best of the others behind them.

    whole: int32[U, k], rows in order; each video has one place.
    """
    first = among[:, :places]
    n = int(max(whole.max(), first.max())) + 1
    there = np.zeros((len(whole), n), np.bool_)
    np.put_along_axis(there, np.maximum(first, 0), True, axis=1)
    again = np.take_along_axis(there, np.maximum(whole, 0), axis=1) | (whole < 0)
    rest = np.take_along_axis(whole, np.argsort(again, axis=1, kind="stable"), axis=1)
    return np.concatenate([first, rest], axis=1)[:, : whole.shape[1]]


def _scores(prepared: Prepared, on: _Split) -> dict[str, Score]:
    videos, popular = len(on.held), popularity_of(on.warm, len(on.held))
    with connect(prepared.job.settings) as stores:
        visual = visual_of(stores.lake, prepared.data.catalogue.ids)
        places = viewer_places(stores.lake, prepared.data.users)
    after = np.full(len(on.users), on.now)
    histories = on.warm.histories(on.users.astype(np.int32), after, FOLDED)

    def by_chance(places: NDArray[np.int64]) -> NDArray[np.floating]:
        return np.random.default_rng(int(places[0])).random((len(places), videos))

    return {
        **_of_towers(prepared, on, histories, visual, places),
        **_of_als(prepared, on, histories, visual),
        "category": _of_categories(prepared.data.catalogue, histories, popular),
        "popularity": lambda places: np.broadcast_to(popular, (len(places), videos)),
        CHANCE: by_chance,
    }


def _of_towers(
    prepared: Prepared,
    on: _Split,
    histories: Histories,
    visual: NDArray[np.float32],
    places: NDArray[np.int64],
) -> dict[str, Score]:
    catalogue = prepared.data.catalogue
    config = prepared.job.config("two_tower", TwoTowerConfig)
    trained = train(on.warm, catalogue, config, visual=visual, viewers=places)
    towers = export(trained, prepared.job.out / "towers")
    towers = towers.with_popularity(trained.popularity, catalogue.uploaded_at, on.now)
    items = np.array(towers.items)
    items[on.held], _ = towers.encode_videos(_uploaded(catalogue, on), on.now, visual[on.held])
    viewers = towers.encode(histories, context(on.now, places[on.users]))
    return {
        TOWERS: lambda asked: viewers[asked] @ items.T,
        "two_tower, cosine alone": lambda asked: viewers[asked, :-1] @ items[:, :-1].T,
    }


def _of_als(
    prepared: Prepared, on: _Split, histories: Histories, visual: NDArray[np.float32]
) -> dict[str, Score]:
    """ALS with factors that a linear model makes of content; and with those that a history gives."""
    config, log, videos = (
        prepared.job.config("als", AlsConfig),
        prepared.data.interactions,
        len(on.held),
    )
    model = AlsModel.fit(on.warm, videos, config)
    inputs = VideoInputs.of(prepared.data.catalogue, visual)
    tables = content_start(inputs, model.factors, np.bincount(on.warm.video, minlength=videos))
    factors = np.where(on.held[:, None], explained(inputs, tables), model.factors)
    judged = on.held[log.video] & np.isin(log.user, on.users)
    known = AlsModel.fit(log.where(~judged), videos, config)
    viewers, viewers_known = (each.fold_in(histories) for each in (model, known))
    return {
        "als, from content": lambda asked: viewers[asked] @ factors.T,
        KNOWN: lambda asked: viewers_known[asked] @ known.factors.T,
    }


def _of_categories(catalogue: Catalogue, histories: Histories, popular: NDArray[np.float64]) -> Score:
    """How often a viewer lately liked a video's category, ties by what is popular on average."""
    code, codes = catalogue.category + 1, len(catalogue.categories) + 1
    usual = np.bincount(code, popular, codes) / np.maximum(np.bincount(code, minlength=codes), 1)
    recent = histories.newest(RECENT)
    liked = np.zeros((len(recent), codes))
    user, entry = np.nonzero(recent.mask & (recent.strength > 0))
    np.add.at(liked, (user, code[recent.rows[user, entry]]), 1.0)
    return lambda asked: liked[asked][:, code] + 1e-6 * usual[code]


def _uploaded(catalogue: Catalogue, on: _Split) -> Catalogue:
    """The held-out videos, in the catalogue's order, as uploads of this moment."""
    table = catalogue.table.filter(pa.array(on.held))
    at, place = pa.array(np.full(len(table), on.now)).cast(UtcTime), VIDEOS.get_field_index("uploaded_at")
    return Catalogue(table.set_column(place, VIDEOS.field(place), at))


def _only(score: Score, held: NDArray[np.bool_]) -> Score:
    return lambda places: np.where(held, score(places), -np.inf)
