"""The step reads each thumbnail once, keeps a network that fits, and lets sources without pictures be."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.ingest import ingest
from components.pipeline import Job, Outcome
from components.runner import INTERVAL
from components.visual import visual
from components.visual_network import co_watched
from components.visual_table import visual_of
from feature_repo.vectors import VISUAL_TABLE
from models.video_inputs import VISUAL
from tests.support.backbone import foreign
from upnext.settings import Settings
from upnext.sources import open_source
from upnext.stores import connect

DAYS = [datetime(2026, 1, day, tzinfo=UTC) for day in (2, 3, 4)]
SMALL = {"visual": {"channels": 2, "samples": 64, "batch": 16}}


def platform(folder: Path, videos: int) -> str:
    """A company's folder with thumbnails of all its videos but the first, and one that is broken."""
    folder.mkdir(exist_ok=True)
    for place in range(1, videos):
        Image.new("RGB", (80, 60), (place * 9 % 256, 90, 30)).save(folder / f"{place}.png")
    (folder / "2.png").write_bytes(b"no picture")
    rows = [
        {"video_id": f"v{i}", "tags": [f"t{i % 2}"], "thumbnail_url": f"{i}.png" if i else None}
        for i in range(videos)
    ]
    events = [
        {
            "user_id": f"u{i % 3}",
            "event_type": "watch",
            "video_id": f"v{i % videos}",
            "watch_duration_ms": 9_000,
        }
        | {"timestamp": f"2026-01-01T{i // 6:02}:{i % 6}0:00Z"}
        for i in range(60)
    ]
    for name, table in (("videos", rows), ("events", events)):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in table))
    return f"files:{folder}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", dataset="default", training=SMALL)


def run(settings: Settings, source: str, day: int = 0) -> Outcome:
    """Ingest and the step, of the interval that ends on a day."""
    until = DAYS[day]
    with connect(settings) as stores:
        ingest(open_source(source), stores.lake, until)
    out = settings.state / "runs" / until.strftime(INTERVAL) / "visual"
    out.mkdir(parents=True)
    return visual(Job(settings, source, until, out))


def known(settings: Settings) -> dict[str, list[float]]:
    with connect(settings) as stores:
        table = stores.lake.read(VISUAL_TABLE)
    return dict(zip(table["video_id"].to_pylist(), table["visual"].to_pylist(), strict=True))


def test_every_picture_becomes_a_vector_and_a_broken_one_is_quarantined(
    settings: Settings, tmp_path: Path
) -> None:
    outcome = run(settings, platform(tmp_path / "files", 12))
    assert outcome.details["trained"]
    figures = {name: outcome.metrics[name] for name in ("videos", "embedded", "refused")}
    assert figures == {"videos": 10, "embedded": 10, "refused": 1}
    assert set(known(settings)) == {f"v{i}" for i in range(12)} - {"v0", "v2"}
    with connect(settings) as stores:
        refused = stores.lake.read("quarantine").to_pylist()
        assert [json.loads(row["row"])["video_id"] for row in refused] == ["v2"]
        vectors = visual_of(stores.lake, ["v3", "v0", "never heard of", "v4"])
    assert vectors.shape == (4, VISUAL)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 0, 1], rtol=1e-5)


def test_a_network_is_kept_until_the_catalogue_has_grown(settings: Settings, tmp_path: Path) -> None:
    first = run(settings, platform(tmp_path / "files", 12))
    before = known(settings)
    second = run(settings, platform(tmp_path / "files", 13), day=1)
    assert not second.details["trained"]
    assert second.details["network"] == first.details["network"]
    assert second.metrics["embedded"] == 1
    assert {video: vector for video, vector in known(settings).items() if video in before} == before
    third = run(settings, platform(tmp_path / "files", 20), day=2)
    assert third.details["trained"]
    assert third.details["network"] != first.details["network"]
    assert third.metrics["embedded"] == third.metrics["videos"] == 18 == len(known(settings))


def test_a_damaged_network_is_trained_anew(settings: Settings, tmp_path: Path) -> None:
    run(settings, platform(tmp_path / "files", 12))
    model = settings.state / "runs" / DAYS[0].strftime(INTERVAL) / "visual" / "model"
    (model / "visual.onnx").write_bytes(os.urandom(99))
    assert run(settings, platform(tmp_path / "files", 12), day=1).details["trained"]


def test_a_brought_backbone_stands_in(settings: Settings, tmp_path: Path) -> None:
    source = platform(tmp_path / "files", 12)
    own = run(settings, source)
    brought = foreign(tmp_path / "theirs.onnx", ["n", 3, 64, 64])
    outcome = run(settings.model_copy(update={"visual_backbone": brought}), source, day=1)
    assert (outcome.details["trained"], outcome.metrics["embedded"]) == (False, 10)
    assert outcome.details["network"] != own.details["network"]


def test_sources_without_pictures_have_nothing_to_do(settings: Settings, tmp_path: Path) -> None:
    source = platform(tmp_path / "files", 12)
    for file in (tmp_path / "files").glob("*.png"):
        file.unlink()
    assert run(settings, source).metrics == {"videos": 0.0}
    with connect(settings) as stores:
        assert stores.lake.version(VISUAL_TABLE) < 0
        assert not visual_of(stores.lake, ["v1"]).any()


def test_co_watches_are_of_one_viewer_in_a_row_and_of_the_past(settings: Settings, tmp_path: Path) -> None:
    source = platform(tmp_path / "files", 12)
    with connect(settings) as stores:
        ingest(open_source(source), stores.lake, DAYS[0])
        job = Job(settings, source, DAYS[0], tmp_path)
        videos = [f"v{i}" for i in range(12)]
        early = co_watched(stores.lake, job, videos)
        late = co_watched(stores.lake, replace(job, until=DAYS[2]), videos)
    assert not len(early)  # all of it is in the part that only the ranker and the gate may see
    assert len(late) == 3 * 3  # three viewers of four videos each
    assert (np.diff(late, axis=1) % 3 == 0).all()  # viewer i watches every third video
