"""The exported ranker answers as the trained one, also about histories, and int8 serves only where it may."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from models import metrics, rank_precision, ranker
from models import scorer as scorer_module
from models.rank_data import Compared, RankData
from models.rank_export import PARITY
from models.rank_scale import Scale
from models.rank_train import Rows, predict
from models.scorer import Scorer
from tests.support.ranks import CONFIG, HISTORY_SCHEMA, planted_in_history
from upnext.errors import CorruptData, DataError, LayoutMismatch


@pytest.fixture(scope="module")
def data() -> tuple[RankData, RankData]:
    return planted_in_history(4_000, 1), planted_in_history(1_500, 2)


@pytest.fixture(scope="module")
def trained(data: tuple[RankData, RankData]) -> ranker.Ranker:
    return ranker.fit(*data, HISTORY_SCHEMA, replace(CONFIG, attention=8, patience=6, learning_rate=1e-2))


@pytest.fixture(scope="module")
def folder(
    trained: ranker.Ranker, data: tuple[RankData, RankData], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("ranker")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_precision, "LARGE", 512)
        trained.save(path, data[1])
    return path


def test_it_learns_what_only_candidate_and_history_together_tell(folder: Path) -> None:
    test = planted_in_history(2_000, 3)
    clicks = Scorer.load(folder).score_batch(test)["click"]
    assert metrics.auc(test.labels["click"][test.shown], clicks[test.shown]) > 0.8


def test_the_factored_graph_answers_as_the_network(trained: ranker.Ranker, tmp_path: Path) -> None:
    trained.save(tmp_path)  # fp32
    test = planted_in_history(300, 4)
    rows = Rows.of(test, HISTORY_SCHEMA, trained.scales, trained.plan.targets(test))
    logits, seconds = predict(trained.net, rows, trained.plan.means)
    heads = Scorer.load(tmp_path).score_batch(test)
    expected = trained.calibration.probabilities(logits)
    for column, head in enumerate(ranker.HEADS[:-1]):
        np.testing.assert_allclose(heads[head], expected[:, column], atol=PARITY, err_msg=head)
    np.testing.assert_allclose(heads["watch_s"], seconds, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("at_once", [1, 2, 256])
def test_a_batch_answers_as_viewer_by_viewer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Seven viewers, their rows mixed."""
    monkeypatch.setattr(scorer_module, "VIEWERS", at_once)
    scorer, whole = Scorer.load(folder), planted_in_history(35, 7)
    test = whole[np.random.default_rng(0).permutation(35)[:21]]
    heads = scorer.score_batch(test)
    assert len(np.unique(test.viewer)) == 7 and (np.diff(test.viewer) < 0).any()
    for viewer in np.unique(test.viewer):
        rows = np.flatnonzero(test.viewer == viewer)
        compared = Compared.of(test.pasts.vectors, test.pasts.video[rows], test.pasts.histories[[viewer]])
        alone = scorer.score(
            test.user[rows[0]], test.video[rows], test.context[rows[0]], test.cross[rows], compared
        )
        for head, scores in alone.items():
            np.testing.assert_allclose(heads[head][rows], scores, rtol=1e-6, err_msg=head)


def test_an_empty_history_counts_for_nothing(folder: Path) -> None:
    scorer, test = Scorer.load(folder), planted_in_history(20, 5)
    assert test.pasts is not None
    vectors = test.pasts.vectors[:20]

    def clicks(past: np.ndarray, strength: list[float], age_s: list[float]) -> np.ndarray:
        compared = Compared(vectors, past, np.asarray(strength, "f4"), np.asarray(age_s, "f4"))
        return scorer.score(test.user[0], test.video, test.context[0], test.cross, compared)["click"]

    nothing, liked = clicks(vectors[:0], [], []), clicks(vectors[:1], [1.0], [1e4])
    assert np.isfinite(nothing).all()
    alike = np.arange(20) % 4 == 0  # of the kind of the video that was liked
    assert (liked - nothing)[alike].min() > (liked - nothing)[~alike].max()


def test_vectors_of_another_length_are_refused(folder: Path, data: tuple[RankData, RankData]) -> None:
    scorer, test = Scorer.load(folder), planted_in_history(5, 6)
    with pytest.raises(LayoutMismatch, match="length 0, the ranker compares 4"):
        scorer.score(test.user[0], test.video, test.context[0], test.cross)
    with pytest.raises(LayoutMismatch, match="length 4, the ranker compares 9"):
        ranker.fit(*data, replace(HISTORY_SCHEMA, vector=9), CONFIG)


def test_a_scale_puts_columns_on_one_scale_and_mark_what_was_unknown() -> None:
    rows = np.array([[1, np.nan], [3, 5], [1, 5], [3, 5]], "f4")
    scale = Scale(np.zeros(2, bool), np.array([2, 5], "f4"), np.array([1, 2], "f4"), np.array([1]))
    np.testing.assert_array_equal(scale.apply(rows), [[-1, 0, 1], [1, 0, 0], [-1, 0, 0], [1, 0, 0]])
    assert Scale.of(rows).missing.tolist() == [1]
    again = Scale.from_dict(json.loads(json.dumps(scale.to_dict())))
    np.testing.assert_array_equal(again.apply(rows), scale.apply(rows))
    with pytest.raises(CorruptData, match="scale"):
        Scale.from_dict({"log": [True]})


def test_scale_of_each_value_by_hand() -> None:
    log, mean, std = np.array([True, False]), np.array([0.5, 2], "f4"), np.array([2, 0.25], "f4")
    rows = np.array([[-3, 2.5], [np.nan, 1e30], [np.inf, np.nan], [7, -np.inf]], "f4")
    expected = np.zeros((4, 3))
    expected[:, 2] = ~np.isfinite(rows[:, 0])
    expected[0, :2] = (-np.log(4) - 0.5) / 2, 2
    expected[1, 1] = 20
    expected[3, 0] = (np.log(8) - 0.5) / 2
    np.testing.assert_allclose(Scale(log, mean, std, np.array([0])).apply(rows), expected, rtol=1e-6)


def test_a_warm_start_in_other_towers_begins_anew_with_the_attention(
    trained: ranker.Ranker, folder: Path, data: tuple[RankData, RankData]
) -> None:
    config = replace(trained.config, epochs=1, learning_rate=1e-9)
    same = ranker.fit(*data, HISTORY_SCHEMA, config, warm_start=folder)
    assert same.report["epochs"][0]["valid_loss"] == pytest.approx(
        min(epoch["valid_loss"] for epoch in trained.report["epochs"]), rel=1e-3
    )
    turned = [replace(rows, pasts=replace(rows.pasts, vectors=-rows.pasts.vectors)) for rows in data]
    other = ranker.fit(*turned, HISTORY_SCHEMA, config, warm_start=folder)
    assert other.report["warm_start"]
    started = trained.net.shape.viewer + trained.net.shape.video
    np.testing.assert_allclose(other.net.bottom.weight[:, started:].detach().numpy(), 0, atol=1e-6)


def test_a_corrupt_checkpoint_is_refused_by_name(
    folder: Path, data: tuple[RankData, RankData], trained: ranker.Ranker, tmp_path: Path
) -> None:
    (tmp_path / "ranker.json").write_bytes((folder / "ranker.json").read_bytes())
    config = replace(trained.config, epochs=1)
    for content in (b"cut", b""):
        (tmp_path / "ranker.pt").write_bytes(content)
        with pytest.raises(CorruptData, match=r"ranker\.pt can't be read"):
            ranker.fit(*data, HISTORY_SCHEMA, config, warm_start=tmp_path)
    (tmp_path / "ranker.json").write_text("{")
    with pytest.raises(CorruptData, match=r"ranker\.json can't be read"):
        ranker.fit(*data, HISTORY_SCHEMA, config, warm_start=tmp_path)


def test_a_loss_that_is_not_a_number_is_an_error(data: tuple[RankData, RankData]) -> None:
    assert data[0].pasts is not None
    broken = replace(data[0].pasts, vectors=np.full_like(data[0].pasts.vectors, np.nan))
    with pytest.raises(DataError, match="the loss is nan in epoch 1"):
        ranker.fit(replace(data[0], pasts=broken), data[1], HISTORY_SCHEMA, replace(CONFIG, epochs=1))


def test_the_choice_of_precision_is_written_down(folder: Path) -> None:
    meta = json.loads((folder / "ranker.json").read_text())["precision"]
    assert meta["chosen"] in {"fp32", "int8"}
    assert set(meta["milliseconds"]) == set(meta["valid"]) == {"fp32", "int8"}
    assert (meta["chosen"] == "int8") == (not meta["why_not_int8"])
    assert not (folder / rank_precision.INT8).exists()


def test_every_large_matrix_becomes_int8(
    trained: ranker.Ranker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_precision, "LARGE", 512)
    trained.save(tmp_path)
    assert rank_precision.quantise(tmp_path / scorer_module.MODEL, tmp_path / rank_precision.INT8)
    held = {file: onnx.load(tmp_path / file).graph for file in (scorer_module.MODEL, rank_precision.INT8)}
    read = {file: {name for node in graph.node for name in node.input} for file, graph in held.items()}
    large = {
        file: [each for each in graph.initializer if each.name in read[file] and np.prod(each.dims) >= 512]
        for file, graph in held.items()
    }
    kinds = {file: {each.data_type for each in kept} for file, kept in large.items()}
    assert len(large[scorer_module.MODEL]) == len(large[rank_precision.INT8]) > 1
    assert kinds == {
        scorer_module.MODEL: {onnx.TensorProto.FLOAT},
        rank_precision.INT8: {onnx.TensorProto.INT8},
    }


def test_int8_is_refused_where_it_loses_or_is_slow(
    trained: ranker.Ranker, data: tuple[RankData, RankData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(fp32: float, int8: float) -> None:
        monkeypatch.setattr(rank_precision, "_milliseconds", lambda *_: {"fp32": fp32, "int8": int8})

    trained.save(tmp_path)
    small = rank_precision.choose_precision(tmp_path, data[1], trained.plan)
    assert small["why_not_int8"] == ["no matrix is large enough"]
    monkeypatch.setattr(rank_precision, "LARGE", 512)
    timed(2.0, 1.0)
    monkeypatch.setattr(rank_precision, "losses", lambda *_: ["auc of click"])
    assert rank_precision.choose_precision(tmp_path, data[1], trained.plan)["chosen"] == "fp32"
    monkeypatch.setattr(rank_precision, "losses", lambda *_: [])
    timed(1.0, 2.0)
    assert rank_precision.choose_precision(tmp_path, data[1], trained.plan)["why_not_int8"] == ["slower"]
    timed(2.0, 1.0)
    fp32 = (tmp_path / "ranker.onnx").read_bytes()
    assert rank_precision.choose_precision(tmp_path, data[1], trained.plan)["chosen"] == "int8"
    assert (tmp_path / "ranker.onnx").read_bytes() != fp32


def test_what_int8_may_lose() -> None:
    fp32 = {"click": {"auc": 0.7}, "watch_s": {"xauc": 0.6, "mae": 20.0}, "like": {"auc": float("nan")}}

    def int8(auc: float, xauc: float = 0.6, mae: float = 20.0) -> dict[str, dict[str, float]]:
        return {"click": {"auc": auc}, "watch_s": {"xauc": xauc, "mae": mae}, "like": {"auc": 0.5}}

    assert rank_precision.losses(fp32, int8(0.6995)) == []
    assert rank_precision.losses(fp32, int8(0.698)) == ["auc of click: 0.6980 against 0.7000"]
    assert rank_precision.losses(fp32, int8(float("nan"))) == ["auc of click: nan against 0.7000"]
    assert rank_precision.losses(fp32, int8(0.7, xauc=0.59)) == ["xauc of watch_s: 0.5900 against 0.6000"]
    assert rank_precision.losses(fp32, int8(0.7, mae=20.5))[0].startswith("error of watch_s")
