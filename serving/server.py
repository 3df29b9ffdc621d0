"""Everything that runs in one serving process: engine, live consumer, impression log, release watcher."""

import logging
from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any, Protocol

from serving.ads import open_ads
from serving.breakers import Breakers
from serving.clock import wall_clock
from serving.collector import settle
from serving.engine import Engine
from serving.erasure import Eraser, ErasureReceipt, erase
from serving.experiments.beside import Beside
from serving.impressions import ImpressionLog, Shown
from serving.intake import Receipt, take_in
from serving.live import Live, load_state, save_state
from serving.paging import Pager
from serving.releasing import Releasing
from serving.resources import users, videos
from serving.rules import FunnelConfig
from serving.security import Guard, RateLimits
from serving.shedding import Lanes
from serving.standing import Barred
from serving.telemetry import Telemetry
from serving.tracing import Tracing
from serving.upkeep import Upkeep
from serving.uploads import Uploads
from serving.watching import ConfigWatcher, Watcher
from upnext.erased import NOBODY, Erased
from upnext.errors import UpnextError
from upnext.secret import derived
from upnext.settings import Settings
from upnext.stores import Stores, connect

SNAPSHOT_S = 15.0
"""Seconds between snapshots of the live counts; what is younger is read from the log again."""
APPLY_S = 0.5
"""Seconds that an answer to accepted events waits at most until they are felt."""
INTAKE_S = 5.0
"""Seconds after which the event log counts as failing; while it is left alone, senders hear so at once."""
EXPERIMENTS_S = 2.0
"""Seconds between looks at the definitions of experiments, and writes of exposures."""
log = logging.getLogger(__name__)


class Memory(Protocol):
    """What this process remembers of people."""

    def ids(self) -> Iterable[str]: ...

    def forget(self, user_id: str, /) -> int: ...


class Server:
    """One process of the service. ``start`` returns at once; ``engine.ready`` tells when it can answer."""

    def __init__(
        self,
        settings: Settings,
        release: str = "champion",
        config: FunnelConfig | None = None,
        poll_s: float = 10.0,
        open_without_keys: bool = False,
    ) -> None:
        from upnext.releases import Releases

        self.settings = settings
        self.telemetry = Telemetry()
        self.tracing = Tracing.of(settings)
        self.stores: Stores = connect(settings)
        stores = self.stores
        self.barred = Barred(stores.catalogue)
        self.uploads = Uploads(stores.catalogue)
        self.breakers = Breakers(self.telemetry.registry)
        self.releases = Releasing(
            stores.history,
            stores.profiles,
            stores.online_features,
            self.breakers.of("online_features"),
            self.telemetry,
            config or FunnelConfig(),
            rows=settings.state,
            near_mb=settings.near_cache_mb,
            uploads=self.uploads,
            on_standing=self.barred.attach,
        )
        self.engine = Engine(self.releases, self.breakers, self.telemetry, open_ads(settings))
        self.lanes = Lanes(lambda: self.engine.limits, self.telemetry.registry)
        self.videos = videos(stores.catalogue, self.barred).behind(self.breakers.of("video_documents"))
        self.users = users(stores.profiles).behind(self.breakers.of("user_documents"))
        self.guard = Guard(stores.keys, open_without_keys)
        self.rate_limits = RateLimits.of(settings, self.breakers.of("rate_limits"))
        self.pager = Pager(derived(settings, "cursors"))
        self.erased = NOBODY
        self.upkeep = Upkeep(
            {
                "keys": self.guard.refresh,
                "barred videos": self.barred.refresh,
            }
        )
        self.renewal = Upkeep({"new videos": self.releases.renew}, "renewal")
        """On its own: thousands of uploads at once take seconds, for which no revoked key may wait."""
        self.erasures = Upkeep({"erasures": self._reread}, "erasures")
        """On its own: it waits for exposures that are being written."""
        self._upkeeps = (self.upkeep, self.erasures, self.renewal)
        self.impressions = ImpressionLog(
            stores.event_log,
            stores.feature_log,
            settings.feature_log_share,
            self.telemetry.impressions_lost.inc,
            self.telemetry.features_lost.inc,
            self._from_before_erasure,
        )
        self.live = Live(
            self.stores.event_log,
            self.stores.history,
            self.engine.count_live,
            self.engine.offset_us,
            self.engine.recount,
        )
        self.watcher = Watcher(
            Releases(settings),
            release,
            self.releases.use,
            lambda how: self.telemetry.swaps.labels(how).inc(),
        )
        self.config = ConfigWatcher(
            settings.home / "funnel.json", self.releases.configure, config or FunnelConfig()
        )
        self.beside = Beside(Releases(settings), self.releases.growth)
        self._poll_s = poll_s
        self._stop = Flag()
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Load the release, go on with the log where the last snapshot ended, write impressions."""
        for each in self._upkeeps:
            each.start()
        self.impressions.start()
        self._spawn("releases", self._watch)
        self._spawn("experiments", self._experiment)

    def stop(self) -> None:
        """Write what waits and close the stores. Requests must have ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)
        for each in self._upkeeps:
            each.stop()
        self.impressions.stop()
        self.look_at_experiments()
        self.live.stop()
        if self.engine.ready:
            self._snapshot()
        self.engine.close()
        self.stores.close()
        if self.tracing is not None:
            self.tracing.close()

    def accept(self, payload: list[Any]) -> tuple[Receipt, bool]:
        """Take events in; also whether those accepted are already felt in the next feed."""
        retention = timedelta(days=self.settings.event_retention_days)

        def take() -> Receipt:
            return take_in(payload, self.stores.event_log, wall_clock(), retention, self.erased.at)

        receipt = self.engine.breakers.of("event_log").call(take, INTAKE_S)
        counted = {
            "accepted": receipt.accepted,
            "repeated": receipt.repeated,
            "refused": len(receipt.refused),
        }
        for outcome, number in counted.items():
            self.telemetry.events.labels(outcome).inc(number)
        felt = not receipt.event_ids or (self.live.running and self.live.catch_up(APPLY_S))
        return receipt, felt

    def searched(
        self, user_id: str, query: str, session_id: str | None, device: str | None, region: str | None
    ) -> None:
        """Log a search, as a client would; the next feed follows it."""
        event = {"user_id": user_id, "event_type": "search", "query": query, "surface": "search"}
        context = {"session_id": session_id, "device": device, "region": region}
        try:
            self.accept([event | context])
        except UpnextError as error:
            log.warning("a search is not logged: %s", error)

    def erase(self, user_id: str) -> ErasureReceipt:
        """Remove a person from every store, and from what waits in this process."""
        waiting: dict[str, Eraser] = {
            "impressions": self.impressions.forget,
            "experiments": self.engine.experiments.forget,
            "shown_lately": self.engine.shown.forget,
            "real_time": self.engine.streams.users.forget,
            "history": lambda user_id: self.live.paused(lambda: self.stores.history.forget(user_id)),
        }
        now = wall_clock()
        remembered = Erased.read(self.stores.erasures, self.settings)
        self.erased = remembered.including(user_id, now)
        return erase(user_id, self.stores, now, waiting)

    @property
    def trouble(self) -> dict[str, str]:
        """What is wrong now, by part; empty when all is well."""
        found = {
            "release": self.watcher.failing,
            "live": self.live.failing,
            "funnel.json": self.config.failing,
            "experiments": self.engine.experiments.failing,
        }
        tasks = [each.failing for each in self._upkeeps]
        return dict(ChainMap({part: why for part, why in found.items() if why}, *tasks))

    def _reread(self) -> None:
        """Take over the register, and forget whom another process has erased since."""
        before, self.erased = self.erased, Erased.read(self.stores.erasures, self.settings)
        if self.erased.times != before.times:
            counted: Sequence[Memory] = (self.engine.shown, self.engine.streams.users)
            self.live.paused(lambda: self._forget_since(before, counted))
            self._forget_since(before, [self.engine.experiments])

    def _forget_since(self, before: Erased, memories: Sequence[Memory]) -> None:
        for memory in memories:
            for user_id in memory.ids():
                if self.erased.at(user_id) != before.at(user_id):
                    memory.forget(user_id)

    def _from_before_erasure(self, shown: Shown) -> bool:
        erased_at = self.erased.at(shown.user_id)
        return erased_at is not None and shown.at <= erased_at

    def _watch(self) -> None:
        settled = ""
        while not self._stop.is_set():
            self.config.look()
            self.watcher.look()
            if self.engine.ready and not self.live.running:
                self._follow()
            if self.watcher.serving != settled:
                settle()
                settled = self.watcher.serving
            self._stop.wait(self._poll_s if self.engine.ready else min(1.0, self._poll_s))

    def look_at_experiments(self) -> None:
        """Read the definitions of experiments again, and write the exposures that wait."""
        self.engine.experiments.look(lambda: self.stores.experiments, self.beside)

    def _experiment(self) -> None:
        while not self._stop.is_set():
            self.look_at_experiments()
            self._stop.wait(EXPERIMENTS_S)

    def _follow(self) -> None:
        """Start applying the log, once there is a release to count by."""
        state: dict[str, Any] = load_state(self._state_file)
        self.engine.live.restore(state.get("counts", {}))
        self.engine.exposure.restore(state.get("exposure", {}))
        self.live.start(state.get("position", ""), state.get("recent"))
        self._spawn("snapshots", self._keep)
        self._spawn("streams", lambda: self.engine.publisher().run(self._stop))

    def _keep(self) -> None:
        while not self._stop.wait(SNAPSHOT_S):
            self._snapshot()

    def _snapshot(self) -> None:
        def save(position: str) -> None:
            kept: dict[str, object] = {
                "counts": self.engine.live.state(),
                "exposure": self.engine.exposure.state(),
                "recent": self.live.recent,
            }
            save_state(self._state_file, position, kept)

        try:
            self.live.frozen(save)
        except (UpnextError, OSError) as error:
            log.warning("no snapshot of the live counts: %s", error)

    @property
    def _state_file(self) -> Path:
        return self.settings.state / "live.json"

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
