"""The way round: a real engine serves, its log is ingested, trained from, and compared with the lake."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import components.skew as skewing
import serving.ranking
from components.commands import skew as command
from components.examples import ExamplesConfig, build_examples
from components.feature_log import TABLE, bring_in
from components.features import SNAPSHOT
from components.ingest import ingest
from components.logged import RELEASES_OWN, LoggedCross, unpacked
from components.materialise import materialise
from components.pipeline import Job
from components.skew import SkewReport, skew_of
from feature_repo.layout import layouts
from feature_repo.offline import snapshot_name
from feature_repo.packed import PackedFeatures
from feature_repo.rows import keep_catalogue
from feature_repo.specs import CREATOR, TIMESTAMP, USER, VIDEO, ViewSpec
from models.bundle import Bundle
from models.crosses import CROSS_NAMES
from serving import documents
from serving.rules import FunnelConfig
from serving.server import Server
from tests.support.bundles import tiny_bundle
from tests.support.patience import PATIENT
from tests.support.small_log import TIME
from tests.unit.components.test_ingest import Given, event
from upnext.errors import SkewFound
from upnext.settings import Settings
from upnext.sources.log import LogSource
from upnext.times import microseconds

NOW = datetime.now(UTC)
AS_OF = (NOW - timedelta(hours=1)).replace(microsecond=0)
VIEWERS = ("ann", "bob", "cleo")
UNTIL = NOW + timedelta(days=9)
"""So that the answers of today lie in the part that trains the ranker: see components/split.py."""


@dataclass
class Site:
    """A platform with a past, and the service on it."""

    server: Server
    bundle: Bundle

    @property
    def settings(self) -> Settings:
        return self.server.settings

    def serve(self, *viewers: str, count: int = 6) -> None:
        """An answer for each, the first item of which is watched."""
        for viewer in viewers:
            answer = self.server.engine.home(viewer, count, device="phone")
            shown = documents.shown(answer, None)
            self.server.impressions.put(shown)
            self.server.impressions.flush()
            watched = {"video_id": shown.video_ids[0], "request_id": shown.request_id}
            receipt, felt = self.server.accept(
                [{"user_id": viewer, "event_type": "watch", "watch_duration_ms": 40_000, **watched}]
            )
            assert receipt.accepted == 1 and felt

    def ingest(self) -> None:
        lake, source = self.server.stores.lake, LogSource("", self.settings)
        ingest(source, lake)
        bring_in(source, lake, NOW - timedelta(days=30))

    def report(self) -> SkewReport:
        return skew_of(self.server.stores.lake, lambda _: self.bundle, 90)


def take_snapshot(site: Site, view: ViewSpec, at: datetime, ids: list[str], rows: np.ndarray) -> None:
    columns = {name: rows[:, place] for place, name in enumerate(view.names)}
    table = pa.table({view.key: ids, **columns})
    table = table.append_column(TIMESTAMP, pa.array([at] * len(ids), TIME))
    table = table.append_column(SNAPSHOT, pa.array([snapshot_name(at)] * len(ids)))
    site.server.stores.lake.append(view.table, table, [SNAPSHOT])


def past_events() -> list[dict[str, Any]]:
    """Ten days of slates on the phone, some watched, clicked, liked or turned down."""
    rng = np.random.default_rng(1)
    rows = []
    for place in range(60):
        at = NOW - timedelta(days=10) + timedelta(hours=4 * place, minutes=-5)
        who = {
            "user_id": VIEWERS[place % 2],
            "request_id": f"old-{place}",
            "video_id": f"v{rng.integers(100):03}",
        }
        where = {"surface": "home", "device": "phone", "position": 0}
        rows.append(event(f"i{place}", at, "impression", **who, **where))
        kind = ("watch", "click", "like", "not_interested")[int(rng.choice(4, p=(0.6, 0.2, 0.1, 0.1)))]
        length = int(rng.integers(1_000, 90_000)) if kind == "watch" else None
        rows.append(event(f"a{place}", at + timedelta(minutes=1), kind, **who, watch_duration_ms=length))
    return rows


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("skew"), meta={"as_of": AS_OF.isoformat()})


@pytest.fixture
def site(bundle: Bundle, tmp_path: Path) -> Iterator[Site]:
    settings = Settings(home=tmp_path, dataset="tiny")
    patient = FunnelConfig(limits=PATIENT)
    made = Site(Server(settings, str(bundle.folder), patient), bundle)
    stores, rng = made.server.stores, np.random.default_rng(0)
    people = [
        {"user_id": name, "region": region, "language": "en"}
        for name, region in zip(VIEWERS, ("NO", "SE", None), strict=True)
    ]
    ingest(Given(past_events(), bundle.catalogue.table.to_pylist(), people), stores.lake)
    take_snapshot(made, VIDEO, AS_OF, bundle.catalogue.ids.tolist(), bundle.video_features)
    people_features = rng.random((2, len(USER.names)), np.float32).astype(np.float16)  # as they are stored
    take_snapshot(made, USER, AS_OF, ["ann", "bob"], people_features.astype(np.float32))
    creators = sorted(set(bundle.catalogue.creators))
    take_snapshot(made, CREATOR, AS_OF, creators, np.zeros((len(creators), len(CREATOR.names)), np.float32))
    keep_catalogue(settings.state, bundle.catalogue.ids.tolist())  # as a release does
    materialise(stores, settings, NOW)
    made.server.watcher.look()
    made.server.live.start("")
    yield made
    made.server.live.stop()
    made.server.engine.close()
    stores.close()


def test_an_honest_round_trip_has_no_skew_and_training_reads_what_was_logged(site: Site) -> None:
    """A snapshot that came after the release is staleness: neither skew, nor a mark of what was sampled."""
    ids = site.bundle.catalogue.ids.tolist()
    site.serve("ann", "bob", "cleo", "ann")
    take_snapshot(site, VIDEO, NOW - timedelta(minutes=1), ids, site.bundle.video_features + 1)
    site.ingest()

    report = site.report()
    assert (report.rows, report.left_out) == (24, {})
    assert len(report.features) == sum(
        map(len, map(site.bundle.scorer.schema.block, ("user", "video", "context", "cross")))
    )
    assert {each.name: each.share for each in report.features if each.share} == {}
    assert max(each.distance for each in report.features) < 1e-3
    report.require(0.0)

    made = build_examples(site.server.stores.lake, site.settings, UNTIL, ExamplesConfig(negatives=2))
    rows, logged = made.examples["train"], made.logged["train"]
    table = site.server.stores.lake.read(TABLE)
    assert len(logged.row) == 24 and made.logged_ignored == 0
    assert made.logged_share == 24 / sum(part.shown.sum() for part in made.examples.values())
    names = [made.users[rows.user[row]] for row in logged.row]
    videos = [ids[rows.video[row]] for row in logged.row]
    wanted = {(line["user_id"], line["video_id"], line["computed_for"]): line for line in table.to_pylist()}
    assert sorted(zip(names, videos, strict=True)) == sorted(key[:2] for key in wanted)
    width = len(site.bundle.scorer.schema.video)
    stale = site.bundle.video_features[rows.video]
    of_slate = np.isin(rows.request, rows.request[logged.row])
    assert (~rows.shown & of_slate).sum() == 8
    np.testing.assert_array_equal(rows.video_features[of_slate], stale[of_slate])
    for request in np.unique(rows.request[of_slate]):
        mine = rows.request == request
        assert (
            len(np.unique(rows.user_features[mine], axis=0))
            == len(np.unique(rows.context[mine], axis=0))
            == 1
        )
    assert unpacked(table["video"], width).shape == (24, width)


def test_wrong_features_are_found_and_named(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One is computed wrongly for requests, one is wrong in the store, of some viewers."""
    honest = serving.ranking.context_features

    def late(layout: Any, ts: Any, *rest: Any) -> np.ndarray:
        out = honest(layout, ts, *rest)
        out[:, layout.names.index("hour_sin")] += 0.5
        return out

    packed = PackedFeatures(site.server.stores.online_features, layouts())
    row = packed.read_matrix(USER.name, ["ann"])
    row[:, USER.names.index("ctr")] += 0.3
    packed.write_matrix(USER.name, ["ann"], row, microseconds(AS_OF))
    monkeypatch.setattr(serving.ranking, "context_features", late)
    site.serve("ann", "bob", "bob", "cleo")
    site.ingest()

    report = site.report()
    assert {(each.block, each.name, each.share) for each in report.features if each.share} == {
        ("context", "hour_sin", 1.0),
        ("user", "ctr", 0.25),
    }
    worst = report.features[0].worst[0]
    assert worst["logged"] == pytest.approx(worst["recomputed"] + 0.5, abs=1e-4)
    assert {example["user_id"] for example in report.features[1].worst} == {"ann"}
    with pytest.raises(SkewFound, match=r"1 features .* context\.hour_sin \(100\.0%\)"):
        report.require(0.3)
    with pytest.raises(SkewFound, match=r"user\.ctr \(25\.0%\)"):
        report.require(0.2)

    monkeypatch.setattr(skewing, "released", lambda settings: lambda _: site.bundle)
    outcome = skewing.skew(Job(site.settings, "log:", NOW, tmp_path))
    assert isinstance(outcome.refused, SkewFound) and "context.hour_sin (100.0%)" in str(outcome.refused)
    assert outcome.metrics["share.user.ctr"] == 0.25 and outcome.metrics["worst_share"] == 1.0
    assert json.loads((tmp_path / "skew.json").read_text())["features"][0]["name"] == "hour_sin"

    environment = {"UPNEXT_HOME": str(site.settings.home), "UPNEXT_DATASET": "tiny"}
    run: Callable[..., Any] = CliRunner().invoke
    passed = run(command, ["--json", "--threshold", "1"], env=environment, catch_exceptions=False)
    assert passed.exit_code == 0 and json.loads(passed.stdout)["rows"] == 24
    failed = run(command, [], env=environment)
    assert isinstance(failed.exception, SkewFound) and failed.exception.exit_code == 8
    assert "context.hour_sin" in failed.stdout


def test_what_cannot_be_compared_is_counted(site: Site) -> None:
    site.serve("ann", "bob")
    site.ingest()
    lake = site.server.stores.lake
    table = lake.read(TABLE)
    shifted = [at - timedelta(days=400) for at in table["computed_for"].to_pylist()[:6]]
    moments = pa.array(shifted + table["computed_for"].to_pylist()[6:], TIME)
    place = table.schema.get_field_index("computed_for")
    lake.overwrite(TABLE, table.set_column(place, "computed_for", moments), ["date"])
    report = site.report()
    assert (report.rows, report.left_out) == (12, {"moment of a replayed log": 6})
    assert {each.block: each.compared for each in report.features}["cross"] == 6

    def gone(version: str) -> Bundle:
        return site.server.watcher.registry.resolve(f"no-{version}")

    lost = skew_of(lake, gone, 90)
    assert (lost.rows, lost.left_out, lost.features) == (0, {"release is not to be had": 12}, [])


def test_another_schema_is_ignored_and_counted(site: Site) -> None:
    site.serve("ann")
    site.ingest()
    lake = site.server.stores.lake
    table = lake.read(TABLE)
    place = table.schema.get_field_index("schema")
    lake.overwrite(TABLE, table.set_column(place, "schema", pa.array(["older"] * 6)), ["date"])
    assert site.report().left_out == {"schema is not its release's": 6}
    made = build_examples(lake, site.settings, UNTIL, ExamplesConfig(negatives=0))
    assert (made.logged_ignored, made.logged_share) == (6, 0.0)


def test_logged_crosses_take_their_places_save_what_a_release_said(tmp_path: Path) -> None:
    computed = np.zeros((3, len(CROSS_NAMES)), np.float32)
    logged = LoggedCross(
        np.array([2, 0]), np.stack([np.full(len(CROSS_NAMES), n, np.float32) for n in (5, 7)])
    )
    logged.save(tmp_path / "logged" / "train.npz")
    for each in (logged, LoggedCross.load(tmp_path / "logged" / "train.npz")):
        out = each.over(computed, CROSS_NAMES)
        assert out[:, CROSS_NAMES.index("seen")].tolist() == [7, 0, 5]
        own = [name.startswith(RELEASES_OWN) for name in CROSS_NAMES]
        assert any(own) and not out[:, own].any()
    nothing = LoggedCross.load(tmp_path / "nothing.npz")
    assert nothing.over(computed, CROSS_NAMES).tolist() == computed.tolist()
