"""An experiment the whole way: served, exposed, logged, ingested, read out."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from components.exposures import bring_in
from components.ingest import ingest
from serving import documents
from serving.experiments.readout import read_out
from serving.server import Server
from tests.support.bundles import tiny_bundle
from upnext.experiments import parse
from upnext.settings import Settings
from upnext.sources.log import LogSource

UNITS = [f"u{i:03d}" for i in range(240)]


@pytest.fixture
def server(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    made = Server(Settings(home=tmp_path / "home", dataset="tiny"), str(bundle.folder))
    made.watcher.look()
    made.live.start("")
    yield made
    made.live.stop()
    made.engine.close()
    made.stores.close()


def test_from_requests_to_a_verdict(server):
    start = datetime.now(UTC) - timedelta(minutes=1)
    variants = [
        {"name": "control", "weight": 0.5},
        {"name": "no-new", "weight": 0.5, "parameters": {"retrievers.new": 0.0}},
    ]
    given = {"name": "new-off", "layer": "retrieval", "start": start, "variants": variants}
    experiment = parse(given | {"expected_users": 200, "guardrails": ["ctr"]})
    server.stores.experiments.put(experiment)
    server.look_at_experiments()
    rng, served = np.random.default_rng(0), {}
    for unit in UNITS:
        answer = server.engine.home(unit, 5)
        document = documents.recommendation(answer, 1.0, debug=False)
        served[unit] = document["experiments"]["new-off"]
        server.impressions.put(documents.shown(answer, None))
        played = int(rng.integers(50_000, 60_000)) // (1 if served[unit] == "control" else 2)
        watch = {"user_id": unit, "event_type": "watch", "video_id": document["items"][0]["video_id"]}
        server.accept([watch | {"watch_duration_ms": played}])
    server.impressions.flush()
    server.look_at_experiments()

    lake = server.stores.lake
    ingest(LogSource("", server.settings), lake)
    assert bring_in(server.stores.experiments, lake) == len(UNITS)
    readout, population = read_out(lake, experiment, datetime.now(UTC))
    told = dict(zip(population.ids.to_pylist(), population.variant.tolist(), strict=True))
    assert told == served and population.crossed == 0
    watch = next(each for each in readout.effects if each.metric == "watch_s")
    assert watch.variant_mean == pytest.approx(watch.control_mean / 2, rel=0.05)
    assert readout.verdict.decision == "stop" and "watch_s of no-new" in readout.verdict.reason
