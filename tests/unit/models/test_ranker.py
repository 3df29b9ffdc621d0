"""The ranker learns what was planted, copes with what real labels look like, and serves what it trained."""

from pathlib import Path

import numpy as np
import pytest

from models import metrics, ranker
from models.rank_data import RankData, RankSchema
from models.rank_targets import ALL, CONSTANT, SHOWN, Plan, platt
from models.ranker import HEADS, RankerConfig
from models.scorer import Scorer
from tests.support.ranks import CONFIG, SCHEMA, planted
from upnext.errors import CorruptData, DataError, EmptyData, LayoutMismatch, MissingData


@pytest.fixture(scope="module")
def data() -> tuple[RankData, RankData]:
    return planted(6_000, 1), planted(2_000, 2)


@pytest.fixture(scope="module")
def trained(data: tuple[RankData, RankData]) -> ranker.Ranker:
    return ranker.fit(*data, SCHEMA, CONFIG)


@pytest.fixture(scope="module")
def folder(trained: ranker.Ranker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranker")
    trained.save(path)
    return path


@pytest.fixture(scope="module")
def scores(folder: Path) -> tuple[RankData, dict[str, np.ndarray]]:
    test = planted(3_000, 3)
    return test, Scorer.load(folder).score_batch(test)


def test_it_learns_an_interaction_that_no_single_input_tells(
    scores: tuple[RankData, dict[str, np.ndarray]],
) -> None:
    test, heads = scores
    click, p = test.labels["click"][test.shown], heads["click"][test.shown]
    assert metrics.auc(click, p) > 0.8
    assert metrics.log_loss(click, p) < metrics.log_loss(click, np.full(len(click), click.mean())) - 0.1


def test_probabilities_of_shown_videos_are_calibrated(scores: tuple[RankData, dict[str, np.ndarray]]) -> None:
    test, heads = scores
    for head in ("click", "long_view", "like"):
        assert metrics.ece(test.labels[head][test.shown], heads[head][test.shown], bins=5) < 0.06, head


def test_relevance_tells_what_is_engaged_with_from_what_is_sampled(
    scores: tuple[RankData, dict[str, np.ndarray]],
) -> None:
    test, heads = scores
    label = test.relevant()
    known = ~np.isnan(label)
    assert metrics.auc(label[known], heads["relevance"][known]) > 0.7
    assert heads["relevance"][known].mean() == pytest.approx(label[known].mean(), abs=0.05)


def test_the_label_of_relevance() -> None:
    def column(*values: float) -> np.ndarray:
        return np.array(values, "f4")

    rows = planted(5, 0)
    rows.shown[:] = [True, True, True, False, False]
    rows.labels.update(
        click=column(1, 0, 1, 0, 0),
        long_view=column(0, 0, 1, 0, 1),
        like=column(0, np.nan, 0, np.nan, np.nan),
        share=column(0, 0, 0, np.nan, np.nan),
        not_interested=column(0, 0, 1, np.nan, np.nan),
    )
    # engaged with, passed over, objected to, sampled, and engaged with where nothing was shown
    np.testing.assert_array_equal(rows.relevant(), [1, np.nan, 0, 0, 1])


def test_expected_seconds_order_and_mean(scores: tuple[RankData, dict[str, np.ndarray]]) -> None:
    test, heads = scores
    seconds, expected = test.labels["watch_s"][test.shown], heads["watch_s"][test.shown]
    assert metrics.xauc(seconds, expected) > 0.7
    assert expected.mean() == pytest.approx(seconds.mean(), rel=0.2)


def test_heads_of_one_class_answer_the_base_rate_with_a_note(
    trained: ranker.Ranker, scores: tuple[RankData, dict[str, np.ndarray]]
) -> None:
    heads = scores[1]
    assert trained.report["scope"]["share"] == CONSTANT
    assert [note.split(":")[0] for note in trained.report["notes"]] == ["share", "not_interested"]
    np.testing.assert_allclose(heads["share"], 0, atol=1e-5)
    np.testing.assert_allclose(heads["not_interested"], 0, atol=1e-5)


def test_the_same_seed_gives_the_same_ranker() -> None:
    rows, config = planted(1_000, 4), RankerConfig(epochs=2, batch_size=256, width=16)
    first, second = (ranker.fit(rows, rows, SCHEMA, config) for _ in range(2))
    assert first.report == second.report
    other = ranker.fit(rows, rows, SCHEMA, RankerConfig(epochs=2, batch_size=256, width=16, seed=1))
    assert other.report["epochs"] != first.report["epochs"]


def test_one_viewer_with_many_videos_equals_row_by_row(folder: Path) -> None:
    scorer, test = Scorer.load(folder), planted(50, 5)
    together = scorer.score(test.user[0], test.video, test.context[0], test.cross)
    assert tuple(together) == HEADS
    for row in (0, 7, 49):
        alone = scorer.score(
            test.user[0],
            test.video[row : row + 1],
            test.context[0],
            test.cross[row : row + 1],
        )
        for head in HEADS:
            assert together[head].dtype == np.float32
            np.testing.assert_allclose(together[head][row], alone[head][0], rtol=1e-4, atol=1e-6)


def test_no_candidates_give_no_scores(folder: Path) -> None:
    scorer = Scorer.load(folder)
    none = scorer.score(
        np.zeros(3, "f4"),
        np.zeros((0, 2), "f4"),
        np.zeros(1, "f4"),
        np.zeros((0, 2), "f4"),
    )
    assert all(values.shape == (0,) for values in none.values())


def test_unknown_and_infinite_inputs_give_finite_scores(folder: Path) -> None:
    for wild in (np.nan, np.inf, -np.inf, 1e30):
        scorer = Scorer.load(folder)
        video = np.full((2, 2), wild, "f4")
        scores = scorer.score(np.full(3, wild, "f4"), video, np.zeros(1, "f4"), np.zeros((2, 2), "f4"))
        assert all(np.isfinite(values).all() for values in scores.values())


def test_a_warm_start_begins_where_the_earlier_one_ended(
    data: tuple[RankData, RankData], trained: ranker.Ranker, folder: Path
) -> None:
    config = RankerConfig(**{**CONFIG.__dict__, "epochs": 1, "learning_rate": 1e-5})
    warm = ranker.fit(*data, SCHEMA, config, warm_start=folder)
    best = min(epoch["valid_loss"] for epoch in trained.report["epochs"])
    assert warm.report["warm_start"]
    assert warm.report["epochs"][0]["valid_loss"] == pytest.approx(best, rel=0.01)


def test_a_warm_start_from_other_inputs_starts_cold(data: tuple[RankData, RankData], folder: Path) -> None:
    schema = RankSchema(SCHEMA.user, ("v0", "other"), SCHEMA.context, SCHEMA.cross)
    config = RankerConfig(epochs=1, width=32, experts=2, rank=8, bins=8)
    assert not ranker.fit(*data, schema, config, warm_start=folder).report["warm_start"]
    assert not ranker.fit(*data, SCHEMA, config, warm_start=folder / "nowhere").report["warm_start"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "epochs is 0, not above 0"),
        ({"batch_size": 0}, "batch_size is 0, not above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan, not above 0"),
        ({"bins": -1}, "bins is -1, not above 0"),
        ({"threads": 0}, "threads is 0, not above 0"),
        ({"width": 1}, "width is 1, not 2 or more"),
        ({"attention_heads": 3}, "attention is 32, no multiple of attention_heads, 3"),
    ],
)
def test_a_configuration_that_trains_nothing_is_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankerConfig(**given)


def test_without_validation_rows_it_trains_all_epochs() -> None:
    rows = planted(300, 6)
    report = ranker.fit(rows, planted(0, 7), SCHEMA, RankerConfig(epochs=3, width=16)).report
    assert len(report["epochs"]) == 3
    assert report["valid"] == {}


def test_without_impressions_the_sampled_videos_are_the_negatives() -> None:
    rows = planted(500, 8)
    rows.labels["click"][rows.shown] = 1
    plan = Plan.of(rows, 4)
    assert plan.scope["click"] == ALL
    assert plan.scope["long_view"] == SHOWN
    assert plan.scope["relevance"] == ALL


def test_unknown_labels_weigh_nothing() -> None:
    rows = planted(500, 9)
    targets = Plan.of(rows, 4).targets(rows)
    like = HEADS.index("like")
    assert not targets.weights[~rows.shown, like].any()
    assert (targets.bins[~rows.shown] == -1).all()
    assert np.isfinite(targets.labels).all()


def test_platt_recovers_scale_and_shift() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(size=50_000)
    label = rng.random(50_000) < 1 / (1 + np.exp(-(2 * logit - 1)))
    assert platt(logit, label) == pytest.approx((2, -1), abs=0.1)
    assert platt(np.array([3.0]), np.array([1.0])) == pytest.approx((1, 0), abs=0.2)  # one row says little


def test_labels_out_of_range_and_no_rows_are_errors() -> None:
    with pytest.raises(EmptyData, match="no training example"):
        ranker.fit(planted(0, 0), planted(0, 0), SCHEMA)
    rows = planted(200, 0)
    rows.labels["click"][3] = 2
    with pytest.raises(DataError, match=r"label click is 2\.0"):
        ranker.fit(rows, planted(0, 0), SCHEMA, RankerConfig(epochs=1, width=16))


def test_a_loss_that_diverges_is_an_error() -> None:
    config = RankerConfig(epochs=3, width=16, batch_size=50, learning_rate=1e30)
    with pytest.raises(DataError, match="lower learning_rate"):
        ranker.fit(planted(200, 0), planted(0, 0), SCHEMA, config)


def test_another_width_is_refused_by_name(folder: Path) -> None:
    scorer = Scorer.load(folder)
    with pytest.raises(LayoutMismatch, match="video features have 3 columns, the ranker was trained on 2"):
        scorer.score(np.zeros(3, "f4"), np.zeros((1, 3), "f4"), np.zeros(1, "f4"), np.zeros((1, 2), "f4"))


def test_broken_and_missing_folders(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(MissingData, match=r"ranker\.onnx"):
        Scorer.load(tmp_path)
    for name in ("ranker.onnx", "ranker.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert Scorer.load(tmp_path).schema == SCHEMA
    (tmp_path / "ranker.onnx").write_bytes(b"cut")
    with pytest.raises(CorruptData, match=r"ranker\.onnx can't be loaded"):
        Scorer.load(tmp_path)
    (tmp_path / "ranker.json").write_text("{}")
    with pytest.raises(CorruptData, match=r"ranker\.json can't be read"):
        Scorer.load(tmp_path)


def test_the_runtime_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, models.scorer, models.utility, models.crosses; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
