"""Step ``examples``: labelled (viewer, video, time) triples with the features of their time, cut by time."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from components.logged import LoggedCross, LoggedFeatures
from components.moments import searches
from components.negatives import Seen, anchors_of, sample_unshown, whole_slates
from components.split import split_times, time_span
from feature_repo.context import CONTEXT_HISTORY, MAX_VALUES, context_features, context_layout
from feature_repo.layout import layouts
from feature_repo.offline import point_in_time
from feature_repo.request import CONTEXT, ranker_schema
from feature_repo.searches import Searches
from models.catalogue import Catalogue
from models.columns import codes, flags, floats, micros
from models.dataset import HEADS, Dataset, Examples, Interactions
from models.layout import FeatureLayout
from upnext.errors import CorruptData, MissingData
from upnext.ports import Lake
from upnext.settings import Settings

if TYPE_CHECKING:
    import feast

LAYOUTS_FILE = "layouts.json"
CHUNK = 65_536
"""Examples whose histories are held at once."""
OUTCOMES = (
    *("user_id", "video_id", "request_id", "session_id", "timestamp", "engaged_at", "date"),
    *("surface", "device", "position", "shown", "clicked", "liked", "shared", "not_interested"),
    *("watched", "watch_ms", "watch_fraction"),
)


@dataclass(frozen=True)
class ExamplesConfig:
    """How the examples are drawn."""

    max_train: int = 200_000
    """Rows of the training part at most, with their negatives: whole slates, those that were shown first."""
    max_valid: int = 60_000
    """The same for tuning. The hold-out is whole and has no negatives: it is the truth to judge by."""
    negatives: int = 4
    """Videos not shown that are added per slate, no more than it has itself; or per engagement, where it was
    not shown."""
    popular_share: float = 0.0
    """Share of those drawn by popularity; the rest is uniform. Popular ones divide popularity out of what the
    ranker learns (docs/LOG.md)."""
    seed: int = 0


@dataclass(frozen=True)
class ExampleSet(Dataset):
    """A data set and the layouts of its feature blocks: user_features, video_features and context."""

    layouts: dict[str, FeatureLayout] = field(default_factory=dict)
    logged: dict[str, LoggedCross] = field(default_factory=dict)
    """By part: cross features that serving logged."""
    logged_ignored: int = 0
    """Logged rows of the examples' time that are of another schema."""

    @property
    def logged_share(self) -> float:
        """Share of the examples shown whose features are the logged ones; nan where nothing was shown."""
        shown = sum(int(rows.shown.sum()) for rows in self.examples.values())
        return sum(len(each.row) for each in self.logged.values()) / shown if shown else float("nan")

    def save(self, folder: Path) -> None:
        """Write the data set's folder, with ``layouts.json`` and what was logged in it."""
        super().save(folder)
        for part, logged in self.logged.items():
            logged.save(logged_file(folder, part))
        raw = {name: json.loads(layout.to_json()) for name, layout in self.layouts.items()}
        (folder / LAYOUTS_FILE).write_text(json.dumps(raw, indent=1))


def logged_file(folder: Path, part: str) -> Path:
    """Where :meth:`ExampleSet.save` keeps the logged cross features of a part."""
    return folder / "logged" / f"{part}.npz"


def load_layouts(folder: Path) -> dict[str, FeatureLayout]:
    """The layouts that :meth:`ExampleSet.save` wrote."""
    file = folder / LAYOUTS_FILE
    if not file.is_file():
        raise MissingData(f"no {LAYOUTS_FILE} in {folder}: run `upnext step examples` first")
    try:
        raw = json.loads(file.read_text())
    except ValueError as error:
        raise CorruptData(f"{file} is not JSON: {error}; run `upnext step examples` again") from error
    return {name: FeatureLayout.from_json(json.dumps(layout)) for name, layout in raw.items()}


def build_examples(
    lake: Lake,
    settings: Settings,
    until: datetime,
    config: ExamplesConfig | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ExampleSet:
    """Everything that a training run learns from, of what happened before ``until``.

    Each example has the features of the newest snapshot at or before its time, joined by Feast, and the
    history strictly before it, or the features that serving logged (:mod:`components.logged`). The same lake,
    time and configuration give the same bytes.
    """
    config = config or ExamplesConfig()
    split = split_times(*time_span(lake, until))
    catalogue = Catalogue.of(lake.read("videos"))
    log = _read_outcomes(lake, until)
    users = _all_users(lake, log)
    interactions = Interactions.of(log, catalogue, users).before(split.until)
    slates = _slates(log)
    rows = _Rows.of(log, catalogue, users, slates.indices)
    popularity = np.bincount(interactions.before(split.history_end).video, minlength=len(catalogue))
    seen = Seen.of(rows.user, rows.video, rows.ts, len(catalogue))
    rng = np.random.default_rng(config.seed)
    parts = {
        "train": rows.between(split.history_end, split.valid_start).sampled(config.max_train, config, rng),
        "valid": rows.between(split.valid_start, split.holdout_start).sampled(config.max_valid, config, rng),
        "holdout": rows.between(split.holdout_start, split.until),
    }
    # Feast takes seconds to load, and readers of layouts have no use for it.
    from feature_repo.repo import feature_store

    store = feature_store(settings)
    asked = searches(lake, pa.array(users, pa.string()))
    context = context_layout(_common(parts["train"].surface), _common(parts["train"].device))
    blocks = {**layouts(), CONTEXT: context}
    logged = LoggedFeatures(lake, ranker_schema(blocks), slates.dictionary, catalogue, users)
    examples, crosses, bare = {}, {}, replace(config, negatives=0)
    for done, (name, part) in enumerate(parts.items()):
        progress(done, len(parts))
        drawn = part.with_negatives(catalogue, popularity, seen, config if name != "holdout" else bare, rng)
        examples[name] = _examples(drawn, store, catalogue, users, interactions, asked, context)
        crosses[name] = logged.put_into(examples[name])
    progress(len(parts), len(parts))
    ignored = logged.ignored(split.history_end, split.until)
    return ExampleSet(catalogue, users, interactions, split, examples, blocks, crosses, ignored)


@dataclass(frozen=True)
class _Rows:
    """Labelled outcomes of known videos as columns of length k."""

    user: NDArray[np.int32]
    video: NDArray[np.int32]
    ts: NDArray[np.int64]
    shown: NDArray[np.bool_]
    position: NDArray[np.int32]
    request: NDArray[np.int32]
    surface: NDArray[np.object_]
    device: NDArray[np.object_]
    labels: dict[str, NDArray[np.float32]]

    @classmethod
    def of(cls, log: pa.Table, catalogue: Catalogue, users: Sequence[str], slate: pa.Array) -> "_Rows":
        """From outcomes in time order and the codes of their slates."""
        video = catalogue.rows(log["video_id"])
        everything = cls(
            user=codes(log["user_id"], users),
            video=video,
            ts=micros(log["timestamp"]),
            shown=flags(log["shown"]),
            position=np.asarray(pc.fill_null(log["position"], -1), np.int32),
            request=np.asarray(slate, np.int32),
            surface=np.asarray(log["surface"].to_pandas(), object),
            device=np.asarray(log["device"].to_pandas(), object),
            labels=labels_of(log),
        )
        return everything.take(np.flatnonzero(video >= 0))

    def __len__(self) -> int:
        return len(self.user)

    def take(self, places: NDArray[np.int64]) -> "_Rows":
        columns = {name: value[places] for name, value in vars(self).items() if name != "labels"}
        return _Rows(**columns, labels={head: label[places] for head, label in self.labels.items()})

    def between(self, start: int, end: int) -> "_Rows":
        return self.take(np.flatnonzero((self.ts >= start) & (self.ts < end)))

    def sampled(self, most: int, config: ExamplesConfig, rng: np.random.Generator) -> "_Rows":
        """Whole slates, as many as have at most ``most`` rows, negatives counted."""
        return self.take(whole_slates(self.request, self.shown, config.negatives, most, rng))

    def with_negatives(
        self,
        catalogue: Catalogue,
        popularity: NDArray[np.int64],
        seen: Seen,
        config: ExamplesConfig,
        rng: np.random.Generator,
    ) -> "_Rows":
        """These and, for each slate (or engagement, where nothing was shown), sampled unshown videos.

        Ordered by slate, then as they came, the sampled ones last.
        """
        anchors = anchors_of(self.request, self.shown, config.negatives)
        drawn = sample_unshown(
            catalogue,
            popularity,
            seen,
            self.user[anchors],
            self.ts[anchors],
            popular_share=config.popular_share,
            rng=rng,
        )
        anchor, video = self.take(anchors[drawn >= 0]), drawn[drawn >= 0]
        unknown = np.full(len(anchor), np.nan, np.float32)
        no = np.zeros(len(anchor), np.float32)
        negative = _Rows(
            user=anchor.user,
            video=video,
            ts=anchor.ts,
            shown=np.zeros(len(anchor), np.bool_),
            position=np.full(len(anchor), -1, np.int32),
            request=anchor.request,
            surface=anchor.surface,
            device=anchor.device,
            labels={head: no if head in ("click", "long_view") else unknown for head in HEADS},
        )
        both = _joined(self, negative)
        return both.take(np.argsort(both.request, kind="stable"))


def labels_of(log: pa.Table) -> dict[str, NDArray[np.float32]]:
    """Labels per head, float32[k], from outcomes; nan where unknown.

    What was engaged with without an impression counts as clicked. A watch of unknown length is a long view
    of unknown seconds; what was shown and not watched has zero seconds.
    """
    shown, watched, clicked = (flags(log[name]) for name in ("shown", "watched", "clicked"))
    fraction = np.nan_to_num(floats(log["watch_fraction"]))
    seconds = np.where(watched, floats(log["watch_ms"]) / 1000, 0.0)
    found = {
        "click": clicked | (watched & ~shown),
        "long_view": fraction > 0.5,
        "like": flags(log["liked"]),
        "share": flags(log["shared"]),
        "not_interested": flags(log["not_interested"]),
        "watch_s": seconds,
    }
    return {head: found[head].astype(np.float32) for head in HEADS}


def _read_outcomes(lake: Lake, until: datetime) -> pa.Table:
    """Outcomes begun before ``until``, in time order; ties by user and video, so that it stays the same."""
    before = ds.field("timestamp") < until.astimezone(UTC)
    log = lake.scan("outcomes").to_table(columns=list(OUTCOMES), filter=before)
    keys = [(name, "ascending") for name in ("timestamp", "user_id", "video_id", "engaged_at")]
    return log.take(pc.sort_indices(log, sort_keys=keys))


def _slates(log: pa.Table) -> pa.DictionaryArray:
    """The slate of each outcome: its request, else its session, else its viewer's day."""
    day = pc.binary_join_element_wise(log["user_id"], log["date"], "|")
    return pc.coalesce(log["request_id"], log["session_id"], day).combine_chunks().dictionary_encode()


def _all_users(lake: Lake, log: pa.Table) -> list[str]:
    """Everyone known or seen, ascending."""
    known = lake.read("users", ["user_id"])["user_id"]
    both = pa.chunked_array([*known.chunks, *log["user_id"].chunks], pa.string())
    return sorted(pc.unique(both).to_pylist())


def _common(values: NDArray[np.object_]) -> list[str]:
    """The most frequent values by name, at most as many as a context tells apart; ties by name.

    Ordered by name, so that the layout stays the same while only the counts change.
    """
    counts = Counter(value for value in values if value is not None)
    often = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_VALUES]
    return sorted(name for name, _ in often)


def _joined(first: _Rows, second: _Rows) -> _Rows:
    def both(one: Any, other: Any) -> Any:
        return np.concatenate([one, other])

    columns = {
        name: both(value, getattr(second, name)) for name, value in vars(first).items() if name != "labels"
    }
    return _Rows(**columns, labels={head: both(first.labels[head], second.labels[head]) for head in HEADS})


def _examples(
    rows: _Rows,
    store: "feast.FeatureStore",
    catalogue: Catalogue,
    users: Sequence[str],
    interactions: Interactions,
    asked: Searches,
    layout: FeatureLayout,
) -> Examples:
    """Rows with their features: Feast's as of each row's time, and the context from the history before it."""
    user_ids = pa.array(users, pa.string()).take(pa.array(rows.user))
    video_ids = catalogue.table["video_id"].combine_chunks().take(pa.array(rows.video))
    user_features, video_features = point_in_time(store, user_ids, video_ids, rows.ts)
    context = np.empty((len(rows), layout.width), np.float32)
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        histories = interactions.histories(rows.user[part], rows.ts[part], CONTEXT_HISTORY)
        query_age_s, _ = asked.latest(rows.user[part], rows.ts[part])
        context[part] = context_features(
            layout, rows.ts[part], rows.surface[part], rows.device[part], histories, query_age_s
        )
    return Examples(
        user=rows.user,
        video=rows.video,
        ts=rows.ts,
        shown=rows.shown,
        position=rows.position,
        request=rows.request,
        labels=rows.labels,
        user_features=user_features,
        video_features=video_features,
        context=context,
    )
