"""Bulk recommending: the stages that serve, as of a time, from files to files."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from feature_repo.offline import SNAPSHOT, snapshot_name
from feature_repo.specs import USER
from models.blend import SIGNALS
from serving.bulk import Bulk
from serving.commands import recommend
from serving.funnel import blended, signals
from serving.policies import RETRIEVERS
from serving.rules import FunnelConfig, Rules
from tests.support.bundles import AS_OF, stamped
from upnext.errors import ConfigError
from upnext.settings import Settings
from upnext.stores import connect

OUTCOMES = {
    "clicked": True,
    "liked": False,
    "shared": False,
    "not_interested": False,
    "watched": True,
    "watch_ms": 60_000,
    "watch_fraction": 1.0,
    "shown": True,
    "region": "SE",
}


def outcome(user, video, days, **changes):
    time = stamped(days)
    return {"user_id": user, "video_id": video, "timestamp": time, "engaged_at": time} | OUTCOMES | changes


@pytest.fixture
def home(tmp_path):
    """A lake in which ann watched topic 3 lately, bob turned a video down, and eve did something later."""
    with connect(Settings(home=tmp_path / "home", dataset="tiny")) as stores:
        rows = [outcome("ann", f"v{3 + 6 * i:03}", -1 - i) for i in range(4)]
        rows += [outcome("bob", "v060", -2, not_interested=True, watched=False), outcome("eve", "v001", 0.5)]
        stores.lake.append("outcomes", pa.Table.from_pylist(rows))
        users = [
            {"user_id": name, "region": "SE", "language": "sv", "device": None} for name in ("ann", "bob")
        ]
        topics = pa.array([[], ["topic2"]], pa.list_(pa.string()))
        stores.lake.append("users", pa.Table.from_pylist(users).append_column("topics", topics))
        columns = (
            {USER.key: ["ann"]}
            | {name: [0.5] for name in USER.names}
            | {SNAPSHOT: [snapshot_name(stamped(-1))]}
        )
        stores.lake.append(USER.table, pa.table(columns), [SNAPSHOT])
        yield stores


@pytest.fixture
def bulk(home, bundle):
    return Bulk.of(bundle, home.lake, AS_OF)


@pytest.fixture
def command(home, bundle, tmp_path, monkeypatch):
    """Runs ``upnext recommend`` on the tiny bundle and reads what it wrote."""
    monkeypatch.setenv("UPNEXT_HOME", str(home.settings.home))
    monkeypatch.setenv("UPNEXT_DATASET", "tiny")
    (tmp_path / "users.csv").write_text("user_id,age\nann,7\nbob,8\nnew,9\nann,7\n")

    def run(*options, out="out.parquet", users="users.csv"):
        path = tmp_path / out
        given = ["--users", str(tmp_path / users)] if users else []
        args = ["--release", str(bundle.folder), *given, "--out", str(path), *map(str, options)]
        done = CliRunner().invoke(recommend, args, catch_exceptions=True)
        if done.exit_code:
            raise done.exception
        return pq.read_table(path) if out.endswith("parquet") else pyarrow.csv.read_csv(path)

    return run


def slate(table, user):
    return [row["video_id"] for row in table.to_pylist() if row["user_id"] == user]


def test_viewers_are_as_they_were_before_the_time(bulk):
    ann, bob, eve, new = bulk.viewers(["ann", "bob", "eve", "new"])
    assert ann.past.rows[0, :5].tolist() == [3, 9, 15, 21, -1]
    assert ann.age_s.tolist() == pytest.approx([86_400 * (1 + i) for i in range(4)])
    assert (ann.region, ann.language) == ("SE", "sv") and set(ann.features.tolist()) == {0.5}
    assert bob.strength.tolist() == [-1] and bob.topics == ("topic2",)
    assert len(eve.seen) == 0  # what she did came later
    assert new.region is None and len(new.seen) == 0


def test_the_funnel_in_bulk_is_the_funnel_of_one(bulk):
    viewers = bulk.viewers(["ann", "bob", "new"])
    together = [picks.rows.tolist() for _, picks in bulk.recommend(viewers, "funnel", "final", 10)]
    alone = [
        picks.rows.tolist()
        for viewer in viewers
        for _, picks in bulk.recommend([viewer], "funnel", "final", 10)
    ]
    assert together == alone


def test_taste_shows_and_seen_videos_do_not(bulk):
    (_, ann), (_, bob) = bulk.recommend(bulk.viewers(["ann", "bob"]), "funnel", "final", 10)
    assert np.mean(ann.rows % 6 == 3) > 0.5
    assert not set(ann.rows.tolist()) & {3, 9, 15, 21}
    assert 60 not in bob.rows


@pytest.mark.parametrize("stage", ["retrieval", "ranking", "final"])
def test_every_stage_can_be_left(bulk, stage):
    for _, picks in bulk.recommend(bulk.viewers(["ann", "new"]), "funnel", stage, 20):
        assert len(set(picks.rows.tolist())) == 20
        if stage != "final":
            assert (np.diff(picks.scores) <= 0).all()


def picks_of(bulk, users, policy, stage="final", count=10):
    return [picks.rows.tolist() for _, picks in bulk.recommend(bulk.viewers(users), policy, stage, count)]


def test_the_retrievers_that_can_be_named_are_those_of_the_funnel(bulk):
    assert tuple(bulk.funnel.retrievers) == RETRIEVERS


def test_a_retriever_alone_keeps_its_own_order(bulk):
    crowd = bulk.funnel.crowd(bulk.viewers(["ann"]))
    (best,) = bulk.funnel.retrievers["als"].retrieve(crowd, 20)
    unseen = [row for row in best.rows.tolist() if row not in {3, 9, 15, 21}]
    (alone,) = picks_of(bulk, ["ann"], "retriever:als", "retrieval", 5)
    assert alone == unseen[:5]
    assert picks_of(bulk, ["new"], "retriever:als", "retrieval") == [[]]  # it knows nothing of her
    assert len(picks_of(bulk, ["new"], "retriever:als")[0]) == 10  # her page is filled with what is popular


def test_the_funnel_without_a_part(bulk):
    whole = bulk.funnel.retrievers["als"]
    blind = replace(bulk, funnel=replace(bulk.funnel, retrievers={"als": whole}))
    others = [name for name in RETRIEVERS if name != "als"]
    rest = replace(
        bulk, funnel=replace(bulk.funnel, retrievers={n: bulk.funnel.retrievers[n] for n in others})
    )
    assert picks_of(bulk, ["ann"], "without:als") == picks_of(rest, ["ann"], "funnel")
    assert picks_of(blind, ["ann"], "without:als") != picks_of(blind, ["ann"], "funnel")
    unranked = picks_of(bulk, ["ann"], "without:ranker", "ranking")
    assert unranked == picks_of(bulk, ["ann"], "funnel", "retrieval")


@pytest.mark.parametrize("name", ["best", "retriever:", "retriever:ranker", "without:popular", "funnel:als"])
def test_a_policy_that_means_nothing_is_named(bulk, name):
    with pytest.raises(ConfigError, match=f"policy '{name}' is not known"):
        picks_of(bulk, ["ann"], name)


def test_given_pairs_cannot_be_ordered_by_a_retriever(bulk):
    with pytest.raises(ConfigError, match="policy retriever:als can't order given pairs"):
        list(bulk.order(bulk.viewers(["ann"]), [np.arange(3, dtype=np.int32)], "retriever:als"))


def test_a_large_count_still_leaves_out_what_was_seen(bulk):
    (ranked,) = picks_of(bulk, ["ann"], "funnel", "ranking", 50)
    assert not set(ranked) & {3, 9, 15, 21}


def test_popularity_follows_the_region_and_random_does_not_repeat_itself(bulk, bundle):
    viewers = bulk.viewers(["ann", "bob", "new"])
    popular = [picks.rows for _, picks in bulk.recommend(viewers, "popularity", "final", 5)]
    assert popular[2].tolist() == np.argsort(-bundle.popularity.scores())[:5].tolist()
    random = [picks.rows.tolist() for _, picks in bulk.recommend(viewers, "random", "final", 5)]
    assert random[0] != random[1]
    assert random == [picks.rows.tolist() for _, picks in bulk.recommend(viewers, "random", "final", 5)]


def test_the_command_writes_one_row_per_user_and_place(command):
    table = command("--count", 5)
    assert table.column_names == ["user_id", "position", "video_id", "score"]
    assert table["user_id"].to_pylist() == [user for user in ("ann", "bob", "new") for _ in range(5)]
    assert table["position"].to_pylist() == list(range(5)) * 3


def test_csv_says_the_same_as_parquet(command):
    assert (
        command("--count", 5, out="out.csv")["video_id"].to_pylist()
        == command("--count", 5)["video_id"].to_pylist()
    )


def test_several_policies_come_with_a_column(command):
    table = command("--count", 3, "--policy", "funnel", "--policy", "popularity", "--policy", "random")
    assert table["policy"].to_pylist() == [
        name for name in ("funnel", "popularity", "random") for _ in range(9)
    ]


def test_given_candidates_are_ranked_and_nothing_else(command, tmp_path):
    pairs = "user_id,video_id\nann,v004\nann,v033\nann,v003\nann,nothing\nnew,v010\nann,v004\n"
    (tmp_path / "pairs.csv").write_text(pairs)
    everything = command("--candidates", tmp_path / "pairs.csv")
    assert sorted(slate(everything, "ann")) == ["v003", "v004", "v033"]
    assert slate(everything, "new") == ["v010"] and slate(everything, "bob") == []
    first = command("--candidates", tmp_path / "pairs.csv", "--count", 1)
    assert slate(first, "ann") == slate(everything, "ann")[:1]
    without_users = command("--candidates", tmp_path / "pairs.csv", users=None)
    assert slate(without_users, "ann") == slate(everything, "ann")


def test_the_heads_come_with_given_candidates(command, tmp_path, bundle):
    (tmp_path / "pairs.csv").write_text("user_id,video_id\nann,v004\nann,v033\nnew,v010\n")
    table = command("--candidates", tmp_path / "pairs.csv", "--heads")
    assert table.column_names[4:] == list(bundle.scorer.heads)
    heads = {name: table[name].to_numpy() for name in bundle.scorer.heads}
    np.testing.assert_allclose(bundle.weights.score(heads), table["score"].to_numpy(), rtol=1e-5)
    with pytest.raises(ConfigError, match="--heads needs --candidates"):
        command("--heads")


def test_an_earlier_time_forgets_what_came_later(command):
    before = command("--as-of", stamped(-0.6).isoformat(), "--count", 30)
    assert "v119" not in before["video_id"].to_pylist()  # uploaded after that
    assert slate(before, "ann") != slate(command("--count", 30), "ann")


def test_the_summary_can_be_read_by_a_script(home, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("UPNEXT_HOME", str(home.settings.home))
    monkeypatch.setenv("UPNEXT_DATASET", "tiny")
    pq.write_table(pa.table({"user_id": ["ann"]}), tmp_path / "users.parquet")
    args = ["--release", str(bundle.folder), "--users", str(tmp_path / "users.parquet"), "--json"]
    done = CliRunner().invoke(recommend, [*args, "--out", str(tmp_path / "out.csv")])
    summary = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert (summary["users"], summary["rows"]) == (1, 30)


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        ("", "u.csv", "can't be read"),
        ("id\n1\n", "u.csv", "lacks the columns user_id"),
        ("user_id\n", "u.csv", "no rows"),
        ("PAR1 cut short", "u.parquet", "can't be read"),
        (None, "u.csv", "no file"),
    ],
)
def test_a_bad_file_of_users_is_named(command, tmp_path, content, name, says):
    from upnext.errors import DataError

    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=says):
        command(users=name)


def test_a_file_of_another_kind_is_not_written(command):
    with pytest.raises(ConfigError, match=r"\.csv or \.parquet"):
        command(out="out.json")


def test_the_signals_come_with_the_order_that_is_blended_from_them(command, bundle):
    table = command("--stage", "ranking", "--signals", "--count", 1_000)
    assert set(table.column_names[4:]) == set(SIGNALS)
    ann = table.filter(pc.equal(table["user_id"], "ann"))
    signals = {name: ann[name].to_numpy() for name in SIGNALS}
    np.testing.assert_allclose(bundle.blend.score(signals), ann["score"].to_numpy(), atol=1e-4)
    rows = bundle.catalogue.rows(ann["video_id"])
    factors = bundle.als.factors[rows]
    fitted = np.linalg.lstsq(factors, signals["als"], rcond=None)[0]
    np.testing.assert_allclose(factors @ fitted, signals["als"], atol=1e-4)  # whoever found the candidate
    for wrong in (["--signals"], ["--signals", "--stage", "ranking", "--policy", "popularity"]):
        with pytest.raises(ConfigError, match="--signals needs --stage ranking"):
            command(*wrong)


def test_the_order_of_a_feed_follows_the_blend_and_beside_a_video_does_not(bulk):
    viewer = bulk.viewers(["ann"])[0]
    by_als = bulk.funnel.configured(FunnelConfig(blend={"utility": 0, "fused": 0, "als": 1}))
    crowd = by_als.crowd([viewer])
    found = {name: each.retrieve(crowd, 100)[0] for name, each in by_als.retrievers.items()}
    pool = by_als.pool(viewer, found, by_als.situation(viewer, 10))
    ranked = by_als.ranker.rank(crowd, pool.rows)
    said = signals(pool, ranked)
    score = blended(pool, ranked, viewer, Rules(), by_als.blend)
    assert np.argsort(-score, kind="stable").tolist() == np.argsort(-said["als"], kind="stable").tolist()
    beside = viewer.asking(seed=5)
    scores = [blended(pool, ranked, beside, Rules(), each.blend).tolist() for each in (by_als, bulk.funnel)]
    assert scores[0] == scores[1]
    assert blended(pool, None, viewer, Rules(), by_als.blend).tolist() == pool.fused.tolist()
