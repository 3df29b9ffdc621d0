"""The experiments that run now, as requests see them: re-read in the background, never on a request's way."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock

import pyarrow as pa

from serving.clock import wall_clock
from serving.experiments import parameters
from serving.experiments.assignment import Assignments
from serving.experiments.beside import Beside
from serving.experiments.exposure import Outcome
from serving.funnel import Funnel
from serving.loaded import Loaded
from serving.viewer import Viewer
from upnext.contracts import EXPOSURES
from upnext.errors import UpnextError
from upnext.experiments import Experiment, Variant
from upnext.ports import Experiments

WAITING = 100_000
"""Exposures that wait to be written at most, and that are remembered as told today."""
UNJUDGED = 500
"""Answers of which it is not known yet what mattered, some 0.1 MB each; beyond that the oldest are let go,
of all variants alike."""
Pick = tuple[Experiment, Variant]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """What requests look at, replaced as a whole; ``made`` fills up with the combinations met so far.

    releases: what ``release`` parameters name -> that release, loaded.
    """

    assignments: Assignments = field(default_factory=Assignments)
    releases: Mapping[str, Loaded] = field(default_factory=dict)
    made: dict[tuple[tuple[str, str], ...], tuple[Loaded, Loaded, Funnel]] = field(default_factory=dict)


@dataclass(frozen=True)
class Joined:
    """What one request takes part in; ``base`` would have answered it without experiments."""

    base: Loaded | None = None
    picks: Sequence[Pick] = ()
    state: State = field(default_factory=State)

    @property
    def variants(self) -> dict[str, str]:
        return {experiment.name: variant.name for experiment, variant in self.picks}


class Board:
    """Gives each request its variants, and remembers exposures until they are written."""

    def __init__(self, clock: Callable[[], datetime] = wall_clock) -> None:
        self._clock = clock
        self._state = State()
        self._asked: deque[tuple[datetime, Joined, Outcome]] = deque(maxlen=UNJUDGED)
        self._waiting: deque[dict[str, object]] = deque(maxlen=WAITING)
        self._told: set[tuple[str, str, str]] = set()
        self._lock = Lock()
        """Of the three above; short, since requests wait for it."""
        self._moving = Lock()
        """Held while something is between two of them, or being written: :meth:`forget` must not miss it."""
        self.failing = ""
        """Why the last look failed, or an experiment does not run; empty while all is well."""

    def refresh(self, store: Experiments, load: Callable[[str], Loaded]) -> None:
        """Read the definitions again; ``load`` gives the release of a ``release`` parameter.

        An experiment that the funnel does not understand, or whose release cannot be loaded, does not run,
        for no variant of it.
        """
        now, troubles = self._clock(), []
        running: list[Experiment] = []
        releases: dict[str, Loaded] = {}
        for experiment in store.all():
            if experiment.stop is not None and experiment.stop <= now:
                continue
            try:
                running.append(known := parameters.checked(experiment))
                for ref in _releases(known):
                    releases[ref] = load(ref)
            except UpnextError as error:
                running = [each for each in running if each.name != experiment.name]
                troubles.append(f"{experiment.name} does not run: {error}")
        assignments = Assignments(tuple(running), store.holdouts())
        held = self._state
        alike = releases.keys() == held.releases.keys() and all(
            loaded is held.releases[ref] for ref, loaded in releases.items()
        )
        if not alike or assignments != held.assignments:
            self._state = State(assignments, releases)
        self._tell("; ".join(troubles))

    def look(self, store: Callable[[], Experiments], beside: Beside) -> None:
        """:meth:`refresh`, :meth:`judge` and :meth:`write`; when the store fails, what was known goes on."""
        try:
            self.refresh(store(), beside.load)
            beside.keep(self._state.releases)
            self.judge()
            self.write(store())
        except Exception as error:  # whatever it is, feeds go on with what was known
            self._tell(str(error) or repr(error))

    def join(self, base: Loaded, viewer: Viewer, surface: str) -> tuple[Loaded, Funnel, Viewer, Joined]:
        """Release and funnel that answer this viewer, the viewer in the release's rows, and what applies."""
        state, plain = self._state, (base, base.funnel, viewer, Joined())
        if not state.assignments.experiments:
            return plain
        picks = state.assignments.of(viewer.user_id, self._clock(), surface, viewer.region, viewer.device)
        if not picks:
            return plain
        try:
            chosen, funnel = self._configured(state, base, picks)
        except UpnextError as error:
            self._tell(f"{', '.join(each.name for each, _ in picks)} do not go together: {error}")
            return plain
        if chosen is not base:
            moved = viewer.onto(base.bundle.catalogue, chosen.bundle.catalogue)
            if viewer.seed >= 0 > moved.seed:
                return plain
            viewer = moved
        return chosen, funnel, viewer, Joined(base, picks, state)

    def expose(self, joined: Joined, outcome: Outcome) -> None:
        """Remember an answer that may be somebody's first exposure of the day; :meth:`judge` finds out."""
        at, unit = self._clock(), outcome.viewer.user_id
        if any((_day(at), experiment.name, unit) not in self._told for experiment, _ in joined.picks):
            light = outcome.light()
            with self._lock:
                self._asked.append((at, joined, light))

    def judge(self) -> None:
        """Note for each remembered answer the experiments that mattered to it, each once a day for its unit.

        This takes the time of post-ranking for each variant, so no answer waits for it.
        """
        while self._asked:
            with self._moving:
                self._judge_one()

    def ids(self) -> set[str]:
        """The units that something is remembered of."""
        with self._moving, self._lock:
            waiting = {str(row["user_id"]) for row in self._waiting}
            return waiting | {each[2].viewer.user_id for each in self._asked} | {key[2] for key in self._told}

    def forget(self, user_id: str) -> int:
        """Drop what waits of a unit, and that it was told; says how many exposures."""
        with self._moving, self._lock:
            kept = [row for row in self._waiting if row["user_id"] != user_id]
            asked = [each for each in self._asked if each[2].viewer.user_id != user_id]
            gone = len(self._waiting) - len(kept)
            self._waiting, self._asked = deque(kept, WAITING), deque(asked, UNJUDGED)
            self._told = {key for key in self._told if key[2] != user_id}
        return gone

    def write(self, store: Experiments) -> int:
        """Write what waits; says how many exposures were new. They wait on when the store fails."""
        with self._moving:
            with self._lock:
                rows = list(self._waiting)
                self._waiting.clear()
            if not rows:
                return 0
            try:
                return store.expose(pa.Table.from_pylist(rows, schema=EXPOSURES))
            except UpnextError:
                with self._lock:
                    self._waiting.extendleft(reversed(rows))
                raise

    def _judge_one(self) -> None:
        with self._lock:
            if not self._asked:
                return
            at, joined, outcome = self._asked.popleft()
            if len(self._told) >= WAITING:
                self._told = set()  # the store counts each once anyway
        day, unit = _day(at), outcome.viewer.user_id
        for experiment, variant in joined.picks:
            key = (day, experiment.name, unit)
            if unit in experiment.overrides or key in self._told:
                continue
            if outcome.mattered(experiment, self._others(joined, experiment, variant)):
                row = (*key, variant.name, at)
                with self._lock:
                    self._told.add(key)
                    self._waiting.append(dict(zip(EXPOSURES.names, row, strict=True)))

    def _configured(self, state: State, base: Loaded, picks: Sequence[Pick]) -> tuple[Loaded, Funnel]:
        """The release and the funnel of some variants, made once for each combination."""
        key = tuple((experiment.name, variant.name) for experiment, variant in picks)
        held = state.made.get(key)
        if held is not None and held[0] is base:
            return held[1], held[2]
        if held is not None:
            state.made.clear()  # of a release that no longer answers
        values = parameters.merged(variant.parameters for _, variant in picks)
        named = state.releases.get(values.get(parameters.RELEASE, ""), base)
        loaded = base if named.version == base.version else named
        funnel = parameters.applied(loaded.funnel.configured(base.funnel.config), values)
        state.made[key] = (base, loaded, funnel)
        return loaded, funnel

    def _others(self, joined: Joined, experiment: Experiment, variant: Variant) -> Iterator[Funnel]:
        """The funnels of the experiment's other variants, the other experiments being as they were."""
        for other in experiment.variants:
            if other is not variant and joined.base is not None:
                picks = [(each, other if each is experiment else held) for each, held in joined.picks]
                yield self._configured(joined.state, joined.base, picks)[1]

    def _tell(self, failing: str) -> None:
        if failing and failing != self.failing:
            log.warning("experiments: %s", failing)
        self.failing = failing


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"


def _releases(experiment: Experiment) -> set[str]:
    named = (variant.parameters.get(parameters.RELEASE) for variant in experiment.variants)
    return {ref for ref in named if ref}
