"""Policies before the world's viewers: each shows pages, learns what came of them, and shows the next.

A panel of viewers is served by the policies, each in a course of events of its own; everybody else goes on
under the world's logging policy, and what they watch makes what is popular, for all policies alike. So a
policy neither feeds its own popularity nor starves on a panel's few events. Popularity is refreshed every few
hours, as a cycle would; models and features stay those of the release.

A viewer's luck with a video in an hour is the same under every policy, so that differences are paired.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.bundle import Bundle
from models.columns import floats, micros
from models.history import SECOND, Histories, strength, watch_fraction
from models.popularity import Popularity
from serving.funnel import Funnel, build
from serving.policies import Policy, choose
from serving.ranking import BundleRanker
from serving.search import TextIndex
from serving.streams import Streams
from serving.trending import LiveCounts
from serving.viewer import SEEN, Viewer
from upnext.times import DAY_US
from upnext.world.visits import Visits
from upnext.world.world import World

SAYS = ("watch", "click", "like", "share", "not_interested")
"""Events that tell what a viewer thinks of a video."""
SLOTS = 10
MOST_PAGES = 6
"""Pages of a session at most, as in the world's own log."""
MEMORY = 100
"""Videos that a viewer of the world remembers having watched."""
REFRESH_US = DAY_US // 4
"""How often popularity is computed anew: as often as a platform runs its cycle."""
BATCH_US = DAY_US // 24
"""Sessions that start within it are served together, no viewer twice."""


@dataclass(frozen=True)
class Elsewhere:
    """What viewers outside the panel engaged with, in time order.

    video: int32[m], catalogue rows; ts: int64[m], µs; weight: float32[m]; region: str[m].
    """

    video: NDArray[np.int32]
    ts: NDArray[np.int64]
    weight: NDArray[np.float32]
    region: pa.Array

    def popularity(self, at: int, n_videos: int, half_life_h: float) -> Popularity:
        """As of a time, µs; nothing later counts."""
        until = int(np.searchsorted(self.ts, at))
        return Popularity.fit(
            self.video[:until],
            self.ts[:until],
            self.weight[:until],
            self.region.slice(0, until),
            n_videos=n_videos,
            as_of=at,
            half_life_h=half_life_h,
        )


@dataclass
class Past:
    """What one viewer did.

    acts: catalogue row -> fraction watched; whether clicked, liked, shared, turned down; the last time, µs.
    """

    acts: dict[int, list[float]] = field(default_factory=dict)

    def add(self, row: int, kind: str, fraction: float, ts: int) -> None:
        act = self.acts.setdefault(row, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        act[SAYS.index(kind)] = act[0] + fraction if kind == "watch" else 1.0
        act[5] = max(act[5], ts)

    def history(self, now: int) -> Histories:
        """B = 1, the newest ``SEEN`` videos, as :func:`models.history.viewer_history` makes it."""
        history = Histories.empty(1, SEEN)
        if not self.acts:
            return history
        rows = np.fromiter(self.acts, np.int64, len(self.acts))
        acts = np.asarray(list(self.acts.values()))
        order = np.lexsort((-rows, -acts[:, 5]))[:SEEN]
        acts, filled = acts[order], slice(0, len(order))
        history.rows[0, filled] = rows[order]
        history.strength[0, filled] = strength(*acts[:, :5].T)
        history.age_s[0, filled] = np.maximum(now - acts[:, 5], 0) / SECOND
        return history


@dataclass(frozen=True)
class Stage:
    """What all policies share.

    viewers: of the panel, as they were when the loop began; rows: int64[P], theirs in the world, ascending;
    videos: int32[n], the world's row of each catalogue row; visits: the panel's, in time order.
    """

    world: World
    bundle: Bundle
    viewers: Sequence[Viewer]
    rows: NDArray[np.int64]
    videos: NDArray[np.int32]
    visits: Visits
    elsewhere: Elsewhere
    past_events: pa.Table

    @cached_property
    def text(self) -> TextIndex:
        return TextIndex.of(self.bundle.catalogue)

    def funnels(self) -> Iterator[tuple[Funnel, Visits]]:
        """The funnel with the popularity of each refresh, and the sessions until the next."""
        window = self.visits.start_us // REFRESH_US
        for first in np.unique(window):
            since, until = np.searchsorted(window, [first, first + 1])
            yield self.funnel(int(first) * REFRESH_US), self.visits.take(slice(int(since), int(until)))

    def funnel(self, at: int) -> Funnel:
        old = self.bundle
        popularity = self.elsewhere.popularity(at, len(old.catalogue), old.popularity.half_life_h)
        towers = old.towers.with_popularity(popularity.scores(), old.catalogue.uploaded_at, at)
        fresh = replace(old, popularity=popularity, towers=towers, index=None)
        quiet = Streams().reader(old.catalogue)  # a panel says less than all viewers do
        return build(fresh, BundleRanker(fresh, quiet), LiveCounts(), text=self.text)


@dataclass
class Arm:
    """One policy's course of events.

    seconds: float64[P, days], watched by viewer and day of the loop; sessions: int64[P, days].
    memory: int32[P, MEMORY], what the world's viewers remember; pasts: what the platform knows of them.
    shown, new: slots filled, and those of them with a video uploaded in the loop.
    """

    policy: Policy
    stage: Stage
    start_us: int
    seconds: NDArray[np.float64]
    sessions: NDArray[np.int64]
    memory: NDArray[np.int32]
    pasts: dict[str, Past] = field(default_factory=lambda: defaultdict(Past))
    shown: int = 0
    new: int = 0

    @classmethod
    def of(cls, name: str, stage: Stage, start_us: int, days: int) -> "Arm":
        people = len(stage.rows)
        arm = cls(
            policy=Policy.parse(name),
            stage=stage,
            start_us=start_us,
            seconds=np.zeros((people, days)),
            sessions=np.zeros((people, days), np.int64),
            memory=np.full((people, MEMORY), -1, np.int32),
        )
        arm.absorb(stage.past_events)
        return arm

    def absorb(self, events: pa.Table) -> None:
        """Add events (columns of EVENTS) to their viewers' pasts; impressions and searches say nothing."""
        catalogue = self.stage.bundle.catalogue
        rows = catalogue.rows(events["video_id"])
        fraction = watch_fraction(floats(events["watch_duration_ms"]), catalogue.duration_s[rows] * 1000.0)
        kinds, users = events["event_type"].to_pylist(), events["user_id"].to_pylist()
        ts = micros(events["timestamp"])
        for place in np.flatnonzero(rows >= 0):
            if (kind := kinds[place]) in SAYS:
                self.pasts[users[place]].add(int(rows[place]), kind, float(fraction[place]), int(ts[place]))

    def serve(self, funnel: Funnel, visits: Visits) -> None:
        """Sessions of one refresh, batch by batch."""
        for batch in batches(visits):
            self._sessions(funnel, batch)

    def _sessions(self, funnel: Funnel, visits: Visits) -> None:
        """Sessions of one batch, their pages in step."""
        world, place = self.stage.world, np.searchsorted(self.stage.rows, visits.viewer)
        day = (visits.start_us - self.start_us) // DAY_US
        self.sessions[place, day] += 1
        blind = self.policy.part == "session"
        at, which = visits.start_us, np.arange(len(visits))
        state = world.open(visits.viewer, at, self.memory[place])
        before = self._viewers(place, at)
        shown = [np.empty(0, np.int32)] * len(visits)
        told: list[pa.Table] = []
        for page in range(MOST_PAGES):
            viewers = self._viewers(place[which], at)
            if blind:
                past = [before[i].past for i in which]
                viewers = [replace(viewer, past=old) for viewer, old in zip(viewers, past, strict=True)]
            picks = list(self._pages(funnel, viewers, [shown[i] for i in which], f"{at[0]}.{page}"))
            for i, rows in zip(which, picks, strict=True):
                shown[i] = np.concatenate([shown[i], rows])
            answer = world.answer(visits.viewer[which], self._slates(picks), at, state)
            np.add.at(self.seconds, (place[which], day[which]), answer.outcome.watch_ms.sum(axis=1) / 1_000)
            self.memory[place[which]] = answer.state.memory(MEMORY)
            told.append(answer.events)
            if not blind:
                self.absorb(told.pop())
            stays = answer.outcome.stays
            which, at, state = which[stays], answer.outcome.left_us[stays], answer.state.take(stays)
            if not len(which):
                break
        for events in told:
            self.absorb(events)

    def _viewers(self, place: NDArray[np.int64], at: NDArray[np.int64]) -> list[Viewer]:
        """Viewers of the panel as they are at times, int64[B] µs."""
        known = (self.stage.viewers[i] for i in place)
        return [
            replace(viewer, now=int(ts), past=self.pasts[viewer.user_id].history(int(ts)))
            for viewer, ts in zip(known, at, strict=True)
        ]

    def _pages(
        self, funnel: Funnel, viewers: Sequence[Viewer], shown: Sequence[NDArray[np.int32]], salt: str
    ) -> Iterator[NDArray[np.int32]]:
        """A page of catalogue rows for each viewer, without what the session has shown."""
        for picks in choose(funnel, viewers, self.policy, "final", SLOTS, shown, salt):
            self.shown += len(picks.rows)
            uploaded = self.stage.bundle.catalogue.uploaded_at[picks.rows]
            self.new += int((uploaded >= self.start_us).sum())
            yield picks.rows

    def _slates(self, picks: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
        """The same as the world's rows, int32[B, SLOTS]."""
        slates = np.full((len(picks), SLOTS), -1, np.int32)
        for line, rows in zip(slates, picks, strict=True):
            line[: len(rows)] = self.stage.videos[rows]
        return slates


def batches(visits: Visits) -> Iterator[Visits]:
    """Sessions that start within ``BATCH_US`` of the first, in order, no viewer twice."""
    start = 0
    while start < len(visits):
        end = int(np.searchsorted(visits.start_us, visits.start_us[start] + BATCH_US))
        again = len(np.unique(visits.viewer[start:end])) < end - start
        if again:
            _, first = np.unique(visits.viewer[start:end], return_index=True)
            repeats = np.setdiff1d(np.arange(end - start), first)
            end = start + int(repeats[0])
        yield visits.take(slice(start, end))
        start = end
