"""Hold-outs and figures against answers worked out by hand."""

import json
from datetime import UTC, datetime
from math import log2
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.evaluation import Holdout, place_slates, score, score_files, slates
from models.catalogue import Catalogue
from models.dataset import HEADS, Dataset, Examples, Interactions, Split
from upnext.contracts import VIDEOS
from upnext.errors import CorruptData, EmptyData, MissingData

START = datetime(2026, 6, 10, tzinfo=UTC)
HOLDOUT = int(START.timestamp() * 1e6)
IDS = ["a", "b", "c", "d"]


def examples(rows: list[tuple[int, int, bool, float, float]]) -> Examples:
    """rows: user, video, shown, long_view, watch_s."""
    user, video, shown, long_view, watch_s = (np.asarray(column) for column in zip(*rows, strict=True))
    unknown = np.full(len(rows), np.nan, np.float32)
    labels = dict.fromkeys(HEADS, unknown)
    labels |= {"long_view": long_view.astype(np.float32), "watch_s": watch_s.astype(np.float32)}
    nothing = np.zeros((len(rows), 0), np.float32)
    return Examples(
        user=user.astype(np.int32),
        video=video.astype(np.int32),
        ts=np.full(len(rows), HOLDOUT),
        shown=shown.astype(bool),
        position=np.full(len(rows), -1, np.int32),
        request=np.full(len(rows), -1, np.int32),
        labels=labels,
        user_features=nothing,
        video_features=nothing,
        context=nothing,
    )


def dataset(rows: list[tuple[int, int, bool, float, float]]) -> Dataset:
    """Two users; u0 has watched video a before the hold-out."""
    videos = pa.Table.from_pylist([{"video_id": each} for each in IDS], schema=VIDEOS)
    before = np.array([HOLDOUT - 1])
    one = np.ones(1, np.float32)
    zero = np.zeros(1, np.int32)
    return Dataset(
        catalogue=Catalogue.of(videos),
        users=["u0", "u1"],
        interactions=Interactions(zero, zero, before, one, one, 2),
        split=Split(HOLDOUT - 2, HOLDOUT - 2, HOLDOUT, HOLDOUT + 1),
        examples={"holdout": examples(rows)},
    )


ROWS = [
    (0, 0, True, 1.0, 30.0),  # seen before the hold-out: wanted again, but not new
    (0, 1, True, 1.0, 20.0),
    (0, 2, True, 0.0, 0.0),  # shown and not watched
    (0, 3, False, 0.0, np.nan),  # a sampled negative
    (1, 3, True, 1.0, 8.0),  # the only one shown to u1: nothing to compare it with
]


def test_only_new_videos_are_wanted_and_only_choices_are_replayed() -> None:
    holdout = Holdout.of(dataset(ROWS))
    assert holdout.users == ["u0", "u1"]
    assert holdout.since == START
    assert holdout.wanted.keys.tolist() == [0 * 4 + 1, 1 * 4 + 3]
    assert holdout.shown(pa.array(IDS)).to_pydict() == {
        "user_id": ["u0", "u0", "u0"],
        "video_id": ["a", "b", "c"],
    }


def test_scores_of_hand_made_slates() -> None:
    holdout = Holdout.of(dataset(ROWS))
    ranked = np.array([[2, 1, -1], [3, 0, 1]], np.int32)
    replayed = np.array([[1], [-1]], np.int32)
    scores = score(holdout, ranked, replayed, None, pa.array(IDS))
    assert scores.ndcg_at_10.tolist() == pytest.approx([1 / log2(3), 1.0])
    assert scores.recall_at_10.tolist() == [1.0, 1.0]
    assert scores.watch_time_per_slot_s[0] == pytest.approx(20.0, abs=1e-4)
    assert np.isnan(scores.watch_time_per_slot_s[1])


class Simulator:
    """Every viewer watches video d for 9 s and nothing else."""

    def judge(self, user_ids: list[str], slates: list[list[str]], at: datetime) -> np.ndarray:
        assert at == START
        out = np.zeros((len(slates), 3))
        for row, slate in enumerate(slates):
            for place, video in enumerate(slate):
                out[row, place] = 9_000 if video == "d" else 0
        return out


def test_a_simulator_is_asked_and_empty_places_do_not_count() -> None:
    holdout = Holdout.of(dataset(ROWS))
    ranked = np.array([[2, 3, -1], [3, -1, -1]], np.int32)
    scores = score(holdout, ranked, ranked[:, :1], Simulator(), pa.array(IDS))
    assert scores.watch_time_per_slot_s.tolist() == [4.5, 9.0]


def test_a_sample_is_seeded_and_of_the_size_asked_for() -> None:
    data = dataset(ROWS)
    assert Holdout.of(data, sample=1, seed=3).users == Holdout.of(data, sample=1, seed=3).users
    assert len(Holdout.of(data, sample=1).users) == 1


def test_places_beyond_the_count_and_unknown_users_are_left_out() -> None:
    table = pa.table(
        {"user_id": ["u0", "u0", "u9", "u1"], "position": [0, 2, 0, 1], "video_id": ["a", "b", "c", "zz"]}
    )
    placed = place_slates(table, pa.array(["u0", "u1"]), pa.array(IDS), 2)
    assert placed.tolist() == [[0, -1], [-1, -1]]


def test_each_policy_has_slates_of_its_own() -> None:
    table = pa.table(
        {
            "user_id": ["u1", "u0", "u1", "u1"],
            "position": [0, 0, 0, 1],
            "video_id": ["d", "c", "b", "a"],
            "policy": ["funnel", "random", "random", "random"],
        }
    )
    found = slates(table, ["random", "funnel", "popularity"], ["u0", "u1"], pa.array(IDS), 2)
    assert {policy: rows.tolist() for policy, rows in found.items()} == {
        "random": [[2, -1], [1, 0]],
        "funnel": [[-1, -1], [3, -1]],
        "popularity": [[-1, -1], [-1, -1]],
    }


def write_files(folder: Path) -> tuple[Path, Path]:
    recommended, truth = folder / "r.csv", folder / "t.parquet"
    recommended.write_text("user_id,position,video_id,score\n007,0,x,2\n007,1,y,1\n8,0,x,1\n")
    pq.write_table(pa.table({"user_id": ["007", "9"], "video_id": ["y", "x"]}), truth)
    return recommended, truth


def test_files_are_scored_with_ids_as_text(tmp_path: Path) -> None:
    figures = score_files(*write_files(tmp_path), count=10)
    assert figures["ndcg_at_10"] == pytest.approx((1 / log2(3)) / 2)
    assert figures["recall_at_10"] == 0.5
    assert figures["map_at_10"] == pytest.approx(0.25)
    assert figures["users"] == 2
    assert figures["ndcg_at_10.low"] <= figures["ndcg_at_10"] <= figures["ndcg_at_10.high"]
    assert json.dumps(figures)


def test_a_file_that_is_not_as_it_should_be_is_named(tmp_path: Path) -> None:
    recommended, truth = write_files(tmp_path)
    lacking = tmp_path / "lacking.csv"
    lacking.write_text("user_id,video\n1,2\n")
    with pytest.raises(MissingData, match=r"lacking\.csv lacks the columns video_id; it has user_id, video"):
        score_files(recommended, lacking, 10)
    truth.write_bytes(truth.read_bytes()[:40])
    with pytest.raises(CorruptData, match=r"t\.parquet can't be read"):
        score_files(recommended, truth, 10)
    empty = tmp_path / "empty.csv"
    empty.write_text("user_id,video_id\n")
    with pytest.raises(EmptyData, match="holds no row"):
        score_files(recommended, empty, 10)


def test_hold_out_without_known_watch_times_has_nothing_to_replay() -> None:
    rows = [(0, 1, True, 1.0, np.nan), (0, 2, True, 0.0, np.nan)]
    holdout = Holdout.of(dataset(rows))
    assert len(holdout.shown(pa.array(IDS))) == 0
    assert holdout.since == START
