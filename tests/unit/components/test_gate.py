"""What the gate refuses, what it lets pass, and which champion it holds a candidate against."""

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from components import gate, release, training
from components.features import build_features
from components.gate import champion_then, refusals
from components.pipeline import Job
from components.training import champion_ranker
from feature_repo.offline import snapshot
from feature_repo.specs import USER, VIDEO
from models.bootstrap import compare
from models.bundle import MANIFEST, Bundle, Manifest, assemble
from models.catalogue import Catalogue
from models.dataset import Split
from models.exposure import Exposure
from models.index import build_index
from models.popularity import Popularity
from models.utility import Weights
from tests.support.bundles import LAYOUTS, tiny_bundle
from tests.support.small_log import END, small_log
from upnext.settings import Settings
from upnext.stores import connect

SINCE = END - timedelta(days=2)
"""Start of the hold-out of the interval that ends at END."""


class Registry:
    """One in which a test's bundle is the champion, as version 7."""

    def __init__(self, champion: Path | None) -> None:
        self.champion = champion

    def version(self, alias: str) -> str | None:
        return "7" if self.champion and alias == "champion" else None

    def resolve(self, version: str) -> SimpleNamespace:
        assert version == "7"
        return SimpleNamespace(path=self.champion)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a lake that reaches beyond the hold-out's start; no test writes to it."""
    home = tmp_path_factory.mktemp("home")
    with small_log().write(home) as stores:
        build_features(stores.lake, SINCE, END, threads=1)
    return home


@pytest.fixture
def job(home: Path, tmp_path: Path) -> Job:
    return Job(Settings(home=home), "files:", END, tmp_path / "gate")


def champion_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job, as_of: datetime, learned: datetime | None
) -> Bundle:
    """A bundle of random parts as of a time, of the lake's catalogue, with an index that lies."""
    with connect(job.settings) as stores:
        catalogue = Catalogue.of(stores.lake.read("videos"))
    meta = {"as_of": as_of.isoformat()} | ({"learned_until": learned.isoformat()} if learned else {})
    made = tiny_bundle(tmp_path / f"champion {as_of:%d}", meta=meta, catalogue=catalogue)
    for module in (gate, training):
        monkeypatch.setattr(module, "Releases", lambda settings: Registry(made.folder))
    return made


def test_a_candidate_is_refused_only_when_it_is_clearly_worse() -> None:
    rng = np.random.default_rng(0)
    baseline = rng.uniform(0, 1, 500)
    worse, noisy, better = baseline - 0.1, baseline + rng.normal(0, 1, 500), baseline + 0.1
    comparisons = {
        name: compare(values, baseline)
        for name, values in {"worse": worse, "noisy": noisy, "better": better}.items()
    }
    reasons = refusals(comparisons)
    assert len(reasons) == 1
    assert reasons[0].startswith("worse: ")
    assert "difference between -0.1 and -0.1" in reasons[0]


@pytest.mark.parametrize(
    ("as_of", "learned"),
    [
        (SINCE - timedelta(days=2), SINCE - timedelta(days=4)),  # of an interval before the hold-out
        (END - timedelta(hours=6), SINCE - timedelta(hours=5)),  # of one that ended within it
        (END, SINCE),  # of this one: a rerun
    ],
)
def test_a_champion_is_judged_with_what_was_known_at_the_start_of_the_hold_out(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_of: datetime, learned: datetime
) -> None:
    own = champion_of(tmp_path, monkeypatch, job, as_of, learned)
    version, folder, about = champion_then(job, SINCE)
    assert (version, about) == ("7", "version 7") and folder is not None
    found = Bundle.load(folder)
    assert (found.manifest.as_of, found.manifest.learned_until) == (SINCE, learned)
    with connect(job.settings) as stores:
        outcomes = stores.lake.read("outcomes")
        ids, features = snapshot(stores.lake, VIDEO.name, SINCE)
    before = outcomes.filter(pc.less(outcomes["engaged_at"], pa.scalar(SINCE)))
    assert 0 < len(before) < len(outcomes)
    at = int(SINCE.timestamp()) * 1_000_000
    popularity, exposure = Popularity.of(before, own.catalogue, at), Exposure.of(before, own.catalogue, at)
    np.testing.assert_array_equal(found.popularity.counts[0], popularity.counts[0])
    assert found.popularity.as_of == at
    np.testing.assert_array_equal(found.exposure.impressions, exposure.impressions)
    np.testing.assert_array_equal(found.video_features, features[[ids.index(v) for v in own.catalogue.ids]])
    wanted = own.towers.with_popularity(popularity.scores())
    np.testing.assert_array_equal(found.towers.items, wanted.items)
    assert found.towers.items[:, -1].any() and not own.towers.items[:, -1].any()
    np.testing.assert_array_equal(found.als.factors, own.als.factors)
    of_ranker = {name: own.manifest.files[name] for name in own.manifest.files if name.startswith("ranker/")}
    assert of_ranker.items() <= found.manifest.files.items() and of_ranker


def test_a_candidate_and_a_champion_of_the_same_models_are_the_same(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``release`` binds the champion, of the interval's end, and as ``gate`` binds the candidate."""
    own = champion_of(tmp_path, monkeypatch, job, END, SINCE)
    split = Split(*(int(at.timestamp()) * 1_000_000 for at in (SINCE, SINCE, SINCE, END)))
    data = SimpleNamespace(split=split, catalogue=own.catalogue)
    monkeypatch.setattr(release.Dataset, "load", lambda folder: data)
    places = {
        "als": "als/served/model",
        "neighbours": "als/served/neighbours",
        "towers": "two_tower/model",
        "ranker": "ranker/model",
    }
    for part, place in places.items():
        shutil.copytree(own.folder / part, job.out.parent / place)
    Weights().save(job.input("ranker") / "weights.json")
    job.input("examples").mkdir()
    shutil.copy(own.folder / "catalogue.parquet", job.input("examples"))
    layouts = {view: json.loads(layout.to_json()) for view, layout in LAYOUTS.items()}
    (job.input("examples") / "layouts.json").write_text(json.dumps(layouts))
    released = release.bind(job, tmp_path / "release" / "bundle", END)
    candidate = Manifest.read(release.bind(job, job.out / "bundle"))
    assert Manifest.read(released).digest != candidate.digest
    monkeypatch.setattr(gate, "Releases", lambda settings: Registry(released))
    champion = champion_then(job, SINCE)[1]
    assert champion is not None
    found = Manifest.read(champion)
    assert (found.digest, found.as_of) == (candidate.digest, candidate.as_of)
    assert found.learned_until == candidate.learned_until == SINCE


def test_the_champion_is_searched_exactly_as_the_candidate_is(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = champion_of(tmp_path, monkeypatch, job, END, SINCE)
    build_index(own.towers.items, own.towers.items).save(tmp_path / "index")
    names = {name.split("/")[0] for name in own.manifest.files}
    build_index(own.als.factors, own.als.factors).save(tmp_path / "als_index")
    parts = {name: own.folder / name for name in names}
    parts |= {name: tmp_path / name for name in ("index", "als_index")}
    about = json.loads((own.folder / MANIFEST).read_text())
    meta = about["meta"] | {"as_of": about["as_of"], "layouts": about["layouts"]}
    indexed = assemble(parts, tmp_path / "indexed", meta)
    monkeypatch.setattr(gate, "Releases", lambda settings: Registry(indexed))
    loaded = Bundle.load(indexed)
    assert loaded.index is not None and loaded.als_indexed is not None
    folder = champion_then(job, SINCE)[1]
    assert folder is not None
    rebound = Bundle.load(folder)
    assert rebound.index is None and rebound.als_indexed is None


@pytest.mark.parametrize(
    ("as_of", "learned"),
    [
        (END + timedelta(days=9), SINCE + timedelta(hours=1)),
        (END, SINCE + timedelta(days=1)),  # of this interval's end, but of a shorter log with a later split
        (END - timedelta(hours=6), None),  # does not tell: as_of is the latest that it can be
    ],
)
def test_a_champion_that_has_learned_from_the_hold_out_is_neither_a_rival_nor_a_start(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_of: datetime, learned: datetime | None
) -> None:
    champion_of(tmp_path, monkeypatch, job, as_of, learned)
    version, folder, about = champion_then(job, SINCE)
    assert (version, folder) == ("none", None)
    until = (learned or as_of).isoformat()
    assert about == f"version 7 is left out: it has learned until {until}, from days that are judged on"
    assert champion_ranker(job.settings, SINCE) == ("none", None)


def test_a_ranker_goes_on_from_a_champion_that_does_not_know_the_hold_out(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = champion_of(tmp_path, monkeypatch, job, END, SINCE)
    assert champion_ranker(job.settings, SINCE) == ("7", own.folder / "ranker")
    monkeypatch.setattr(training, "Releases", lambda settings: Registry(None))
    assert champion_ranker(job.settings, SINCE) == ("none", None)


def test_a_champion_of_another_layout_is_left_out(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion_of(tmp_path, monkeypatch, job, END, SINCE)
    today = LAYOUTS | {USER.name: LAYOUTS[VIDEO.name]}
    monkeypatch.setattr(gate, "layouts", lambda: today)
    assert champion_then(job, SINCE) == (
        "none",
        None,
        f"version 7 is left out: it reads {USER.name} in another layout",
    )


def test_the_first_cycle_has_no_champion(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "Releases", lambda settings: Registry(None))
    assert champion_then(job, SINCE) == ("none", None, "there is none")
