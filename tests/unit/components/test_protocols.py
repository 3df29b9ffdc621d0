"""Splits, rankings and reports of the protocols, worked out by hand, and two of them end to end."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace as Namespace

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from components.commands import evaluate
from components.ingest import ingest
from components.pipeline import Job, up_to
from components.protocols import PROTOCOLS, load
from components.protocols.cold_start import cold_start, reserved
from components.protocols.holdout import at_first_moment
from components.protocols.off_policy import DRAWS, Slots, asked, chance
from components.protocols.prepared import Prepared
from components.protocols.ranking import popularity_of, rank
from components.protocols.report import Report
from components.protocols.retrievers import found_by_one
from components.protocols.splits import held_users, last_of_each, leave_one_out, strong_generalisation
from models.catalogue import Catalogue
from models.dataset import HEADS, Dataset, Examples, Interactions, Split
from models.metrics import Truth
from upnext.errors import ConfigError, EmptyData
from upnext.settings import Settings
from upnext.sources import open_source
from upnext.stores import connect

UNTIL = datetime(2001, 1, 1, tzinfo=UTC)
SMALL = {"two_tower": {"width": 17, "embedding": 16, "epochs": 6, "batch": 128, "uniform": 16}}


def log_of(rows: list[tuple[int, int, int, float]], users: int) -> Interactions:
    """rows: user, video, ts, strength, in order."""
    user, video, ts, strength = (np.array(column) for column in zip(*rows, strict=True))
    played = np.ones(len(rows), np.float32)
    ordered = user.astype(np.int32), video.astype(np.int32), ts.astype(np.int64)
    return Interactions(*ordered, strength.astype(np.float32), played, users)


WATCHED = [(0, video, 10 * video, 1.0) for video in range(6)]
LOG = log_of([*WATCHED, (0, 2, 90, 1.0), (0, 7, 99, -1.0), (1, 0, 5, 1.0)], users=2)
"""User 0 liked six videos, the third of them again at the end, and turned one down; user 1 liked one."""


def test_the_last_liked_video_is_hidden_with_all_that_is_known_of_it() -> None:
    split = last_of_each(LOG, sample=10, seed=0)
    assert split.users.tolist() == [0]
    assert split.hidden.video.tolist() == [2]
    assert split.shown.video.tolist() == [0, 1, 3, 4, 5, 7, 0]
    assert split.truth(8).counts().tolist() == [1]


def test_a_fifth_is_hidden_of_users_who_are_not_learned_from() -> None:
    rows = [(user, video, video, 1.0) for user in range(20) for video in range(10)]
    split = held_users(log_of(rows, users=20), sample=100, seed=0)
    assert len(split.users) == 2
    assert not np.isin(split.learned.user, split.users).any() and len(split.learned) == 180
    assert split.truth(10).counts().tolist() == [2, 2]
    for user in split.users:
        shown, hidden = (set(part.video[part.user == user].tolist()) for part in (split.shown, split.hidden))
        assert len(shown) == 8 and not shown & hidden
    assert held_users(log_of(rows, users=20), 100, seed=0).users.tolist() == split.users.tolist()


def test_the_tenth_is_of_all_users_and_the_sample_is_of_the_tenth() -> None:
    rows = [(user, video, video, 1.0) for user in range(200) for video in range(10)]
    whole, some = (held_users(log_of(rows, users=200), sample, seed=0) for sample in (200, 15))
    assert (len(whole.users), len(some.users)) == (20, 15)
    assert set(some.users) < set(whole.users)
    assert len(some.learned) == len(whole.learned) == 1_800
    assert set(some.shown.user) == set(some.hidden.user) == set(some.users)


def test_nobody_to_judge_on_is_an_error() -> None:
    with pytest.raises(EmptyData, match="no user liked 5 videos"):
        last_of_each(log_of([(0, 0, 1, 1.0)], users=1), 10, 0)


def test_the_whole_catalogue_is_ranked_but_what_was_met() -> None:
    scores = np.array([[5.0, 9, 7, 7, 1], [0, 1, 2, 3, 4]])
    known = log_of([(0, 1, 1, 1.0), (2, 4, 1, 1.0)], users=3)
    ranked = rank(lambda places: scores[places], np.array([0, 2]), known, 9, 5)
    assert ranked.tolist() == [[2, 3, 0, 4, -1], [3, 2, 1, 0, -1]]
    assert popularity_of(LOG, 8).tolist() == [2, 1, 1, 1, 1, 1, 0, 0]


def test_what_one_retriever_alone_finds() -> None:
    truth = Truth.of([0, 0, 1], [1, 2, 2], [1, 1, 1], users=2, videos=4)
    first, second = np.array([[1, 2], [3, -1]]), np.array([[2, 0], [2, 2]])
    assert found_by_one([first, second], truth).tolist() == [[1, 0], [0, 1]]


LISTS = np.array([[3, 1], [2, -1]], np.int32)
SLOTS = Slots(["a", "b"], np.array([0, 0, 1]), np.array([1, 2, 2]), np.zeros(3), np.ones(3))


def test_a_slot_is_a_draw_from_its_users_list() -> None:
    assert chance(SLOTS, LISTS).tolist() == [0.5, 0.0, 1.0]


def test_the_simulator_is_asked_about_slates_drawn_from_the_lists() -> None:
    class Judge:
        calls = 0

        def judge(self, user_ids, slates, at):
            self.calls += 1
            assert [sorted(slate) for slate in slates] == [["v1", "v3"], ["", "v2"]]
            return np.array([[1_000, 3_000], [8_000, 0]])

    judge = Judge()
    ids = pa.array([f"v{row}" for row in range(4)])
    # a has two of the three slots and earns 2 s in each; b earns 8.
    assert asked(judge, UNTIL, SLOTS, LISTS, ids, seed=0) == pytest.approx((2 + 2 + 8) / 3)
    assert judge.calls == DRAWS


def test_viewers_are_held_at_their_first_moment_on_the_surfaces_that_they_had() -> None:
    user = np.array([1, 0, 1, 0], np.int32)
    context = np.array([[11, 1, 0], [12, 0, 1], [13, 0, 1], [14, 1, 0]], np.float32)
    rows = Examples(
        user=user,
        video=np.arange(4, dtype=np.int32),
        ts=np.array([30, 40, 10, 50]),
        shown=np.ones(4, np.bool_),
        position=np.arange(4, dtype=np.int32),
        request=np.arange(4, dtype=np.int32),
        labels={head: np.arange(4, dtype=np.float32) for head in HEADS},
        user_features=np.array([[1], [2], [3], [4]], np.float32),
        video_features=np.array([[5], [6], [7], [8]], np.float32),
        context=context,
    )
    still = at_first_moment(rows, ("hour_sin", "surface=home", "surface=related"))
    assert still.ts.tolist() == [9, 38, 8, 39]
    assert still.user_features.ravel().tolist() == [3, 2, 3, 2]
    assert still.context.tolist() == [[13, 1, 0], [12, 0, 1], [13, 0, 1], [12, 1, 0]]
    assert still.video_features is rows.video_features and still.labels is rows.labels
    assert context[0, 0] == 11


def test_a_report_tells_of_each_policy_beside_the_baseline() -> None:
    report = Report("holdout", "world:")
    base = np.array([1.0, 2.0, 3.0, np.nan])
    report.add("ndcg", {"funnel": 2 * base, "popularity": base, "none": base * np.nan})
    funnel, popularity = report.find("ndcg", "funnel"), report.find("ndcg", "popularity")
    assert funnel and popularity and report.find("ndcg", "none") is None
    assert (funnel.value, funnel.users, funnel.lift) == (4.0, 3, 1.0)
    assert (funnel.lift_low, funnel.lift_high) == (1.0, 1.0)
    assert popularity.lift is None
    assert report.notes == ["ndcg of none: nobody has a figure"]
    assert json.loads(json.dumps(report.to_dict()))["figures"][0]["policy"] == "funnel"
    assert "| ndcg | funnel | 4 (2 to 6) | +100.0% (+100.0% to +100.0%) | 0.25 |" in report.markdown()


def prepared_of(data: Dataset, home: Path, name: str = "test") -> Prepared:
    settings = Settings(home=home, dataset="tiny", training=SMALL)
    out = settings.state / "runs" / "2001-01-01T000000Z" / "evaluate" / name
    data.save(out.parent.parent / "examples")
    out.mkdir(parents=True)
    return Prepared(Job(settings, "movielens:there", UNTIL, out), sample=100)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Dataset:
    """MovieLens 1M's layout: 60 people of two tastes, 40 films of two genres with words of their own."""
    folder, rng = tmp_path_factory.mktemp("ml") / "tiny", np.random.default_rng(0)
    folder.mkdir()
    films = [
        f"{film}::Film {film} of {'ab'[film % 2] * 5} (1990)::{'Drama' if film % 2 else 'Western'}"
        for film in range(40)
    ]
    ratings = []
    for person in range(60):
        mine = rng.permutation(np.arange(person % 2, 40, 2))[:14]
        ratings += [f"{person}::{film}::5::{960_000_000 + 1_000 * n + person}" for n, film in enumerate(mine)]
    (folder / "movies.dat").write_text("\n".join(films) + "\n", "latin-1")
    (folder / "ratings.dat").write_text("\n".join(ratings) + "\n")
    (folder / "users.dat").write_text("".join(f"{person}::M::25::1::00000\n" for person in range(60)))
    with connect(Settings(home=folder.parent / "home", dataset="tiny")) as stores:
        ingest(open_source(f"movielens:{folder}"), stores.lake)
        catalogue = Catalogue.of(stores.lake.read("videos"))
        outcomes = stores.lake.read("outcomes")
    users = sorted(set(outcomes["user_id"].to_pylist()))
    end = int(UNTIL.timestamp() * 1e6)
    return Dataset(catalogue, users, Interactions.of(outcomes, catalogue, users), Split(end, end, end, end))


@pytest.mark.parametrize("protocol", [leave_one_out, strong_generalisation])
def test_models_beat_popularity_where_tastes_are_plain(films, tmp_path, protocol) -> None:
    report = protocol(prepared_of(films, tmp_path))
    measure = {"leave-one-out": "HR@10", "strong-generalisation": "ndcg@100"}[report.protocol]
    als, popularity = report.find(measure, "als"), report.find(measure, "popularity")
    assert als and popularity and report.find(measure, "two_tower")
    assert als.value > popularity.value


def test_content_finds_films_that_nobody_has_watched(films, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("components.protocols.cold_start.AMONG", 2)  # of the four that are held out
    monkeypatch.setattr("components.protocols.cold_start.WHOLE", 10)
    monkeypatch.setattr("components.protocols.cold_start.RESERVED", 2)
    monkeypatch.setattr("components.protocols.cold_start.viewer_places", lambda _, users: nowhere(users))
    report = cold_start(prepared_of(films, tmp_path))
    measure = "recall@2, among the held-out videos"
    assert report.find(measure, "two_tower").value > report.find(measure, "random").value + 0.15
    assert report.notes[0].startswith("4 of 40 videos held out")
    whole, some = "recall@10, whole catalogue", "recall@10, of which 2 places are reserved"
    assert report.find(whole, "popularity").value == 0
    assert report.find(whole, "two_tower").value > report.find(whole, "random").value + 0.1
    assert report.find(some, "two_tower").value >= report.find(measure, "two_tower").value
    assert report.find(measure, "als, had others watched them").value > report.find(measure, "random").value


def nowhere(users: list[str]) -> np.ndarray:
    return np.zeros((len(users), 2), np.int64)


def test_reserved_places_come_first_and_no_video_has_two() -> None:
    whole = np.array([[5, 1, 2, 3], [7, 6, 4, 0]])
    among = np.array([[3, 5, 6], [9, 7, -1]])
    assert reserved(whole, among, 2).tolist() == [[3, 5, 1, 2], [9, 7, 6, 4]]
    assert reserved(whole[:1], np.array([[3, -1]]), 2).tolist() == [[3, -1, 5, 1]]


def test_a_protocol_runs_the_steps_that_it_needs_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, datetime | None]] = []

    def start(settings: Settings, name: str, source: str, until: datetime | None, force: bool) -> Namespace:
        told.append((name, until))
        return Namespace(until=UNTIL.isoformat())

    monkeypatch.setattr("components.runner.start_step", start)
    made = Prepared.of(Settings(home=tmp_path), "world:", "holdout", "ranker", sample=1, seed=0)
    assert made.job.until == UNTIL
    assert told[0] == ("ingest", None) and {until for _, until in told[1:]} == {UNTIL}
    assert [name for name, _ in told] == [step.name for step in up_to("ranker")]
    assert "materialise" not in dict(told)


def test_every_protocol_is_documented_and_loads() -> None:
    page = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()
    for name in PROTOCOLS:
        assert callable(load(name))
        assert f"--protocol {name}" in page
    with pytest.raises(ConfigError, match="protocol is 'best': it is one of holdout"):
        load("best")


def test_the_command_wants_files_or_a_protocol() -> None:
    done = CliRunner().invoke(evaluate, [])
    assert isinstance(done.exception, ConfigError) and "--protocol" in str(done.exception)
