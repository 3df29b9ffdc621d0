"""The visual network parts pictures that differ, repeats itself, survives export; another may stand in."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.video_inputs import VISUAL
from models.visual import SIDE, Targets, VisualConfig, VisualNet, _Descent, as_input, train
from models.visual_export import NETWORK, STATE, PictureEncoder, export, resume
from tests.support.backbone import foreign
from upnext.errors import ConfigError, CorruptData, EmptyData, MissingData

SMALL = VisualConfig(channels=4, samples=1_500, batch=32, learning_rate=1e-2)
NO_PAIRS = np.zeros((0, 2), np.int64)


def pictures_of(n: int, seed: int = 0) -> np.ndarray:
    """Noise, every other one with a bright square: uint8[n, 64, 64, 3]."""
    pictures = np.random.default_rng(seed).integers(0, 120, (n, SIDE, SIDE, 3)).astype(np.uint8)
    pictures[1::2, 20:44, 20:44] += 120
    return pictures


def targets_of(n: int) -> Targets:
    tags = [["square", "bright"] if i % 2 else ["noise"] for i in range(n)]
    return Targets.of(tags, np.arange(n) % 2, NO_PAIRS)


def parted(vectors: np.ndarray) -> bool:
    """Whether every picture is nearer to those of its kind than to any other."""
    cosines = vectors @ vectors.T
    same = np.arange(len(vectors))[:, None] % 2 == np.arange(len(vectors))[None, :] % 2
    return bool(cosines[same].min() > cosines[~same].max())


@pytest.fixture(scope="module")
def net() -> VisualNet:
    return train(pictures_of(40), targets_of(40), SMALL)[0]


@pytest.fixture(scope="module")
def folder(net: VisualNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("visual")
    export(net, folder, pictures_of(4))
    return folder


def test_unseen_pictures_are_parted(folder: Path) -> None:
    vectors = PictureEncoder.load(folder / NETWORK).encode(pictures_of(20, seed=9))
    assert (vectors.shape, vectors.dtype) == ((20, VISUAL), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert parted(vectors)


def test_co_watches_alone_teach_too() -> None:
    nothing = Targets.of([None] * 40, np.full(40, -1), NO_PAIRS)
    assert nothing.empty
    pairs = np.array([(i, (i + 2) % 40) for i in range(40)], np.int64)
    net, loss = train(pictures_of(40), replace(nothing, pairs=pairs), SMALL)
    assert math.isfinite(loss)
    with torch.no_grad():
        vectors = net(as_input(pictures_of(20, seed=9))).numpy()
    same = vectors[::2] @ vectors[::2].T
    assert same.mean() > (vectors[::2] @ vectors[1::2].T).mean() + 0.3


def test_no_picture_is_pushed_from_itself_nor_from_its_partner() -> None:
    """Pairs (a, b), (b, a) and (c, d): a is held against b and d, b against a and d, c against all."""
    pictures = pictures_of(4)
    pairs = np.array([(0, 1), (1, 0), (2, 3)], np.int64)
    config = replace(SMALL, temperature=1.0)
    descent = _Descent(VisualNet(4), pictures, replace(targets_of(4), pairs=pairs), config)
    cosines = np.array([[0.1, 0.9, 0.2], [0.8, 0.3, 0.4], [0.5, 0.6, 0.7]])
    loss = descent._contrast(torch.tensor(cosines), torch.eye(3, dtype=torch.float64), *pairs.T)
    of_a = -math.log(math.exp(0.1) / (math.exp(0.1) + math.exp(0.2)))
    of_b = -math.log(math.exp(0.3) / (math.exp(0.3) + math.exp(0.4)))
    of_c = -math.log(math.exp(0.7) / (math.exp(0.5) + math.exp(0.6) + math.exp(0.7)))
    assert float(loss) == pytest.approx((of_a + of_b + of_c) / 3)


def test_tags_are_shared_out_and_rare_ones_left_out() -> None:
    targets = Targets.of([["a", "b"], ["a"], None, ["c"]], np.array([0, -1, 2, 0]), NO_PAIRS, most=2)
    assert targets.tags.tolist() == [[0.5, 0.5], [1, 0], [0, 0], [0, 0]]
    assert (targets.categories, len(targets)) == (3, 4)


def test_same_seed_same_weights(net: VisualNet) -> None:
    again, _ = train(pictures_of(40), targets_of(40), SMALL)
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, rtol=0, atol=0)


def test_many_equal_one_by_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, pictures = PictureEncoder.load(folder / NETWORK), pictures_of(9)
    together = encoder.encode(pictures)
    monkeypatch.setattr("models.visual_export.CHUNK", 2)
    np.testing.assert_allclose(encoder.encode(pictures), together, atol=1e-5)
    assert encoder.encode(pictures[:0]).shape == (0, VISUAL)


def test_going_on_from_an_earlier_one(net: VisualNet, folder: Path) -> None:
    resumed = resume(folder, SMALL)
    torch.testing.assert_close(resumed.state_dict(), net.state_dict())
    _, warm = train(pictures_of(40), targets_of(40), replace(SMALL, samples=64), resumed)
    _, cold = train(pictures_of(40), targets_of(40), replace(SMALL, samples=64))
    assert warm < cold
    with pytest.raises(CorruptData, match="no start"):
        resume(folder, replace(SMALL, channels=8))
    with pytest.raises(MissingData):
        resume(folder / "nowhere", SMALL)


def test_a_corrupt_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"no weights")
    with pytest.raises(CorruptData, match=STATE):
        resume(tmp_path, SMALL)
    (tmp_path / NETWORK).write_bytes(b"no graph")
    with pytest.raises(CorruptData, match=NETWORK):
        PictureEncoder.load(tmp_path / NETWORK)
    with pytest.raises(MissingData):
        PictureEncoder.load(tmp_path / "none.onnx")


def test_a_loss_that_is_nan_stops_training() -> None:
    broken = VisualNet(SMALL.channels)
    with torch.no_grad():
        broken.out.bias[0] = torch.nan
    with pytest.raises(CorruptData, match="loss became nan"):
        train(pictures_of(8), targets_of(8), SMALL, broken)
    with pytest.raises(EmptyData):
        train(pictures_of(0), targets_of(0), SMALL)
    with pytest.raises(ValueError, match="batch is 2"):
        VisualConfig(batch=2)


def test_a_brought_backbone_is_projected_the_same_way_each_time(tmp_path: Path) -> None:
    encoder = PictureEncoder.load(foreign(tmp_path / "theirs.onnx", ["n", 3, SIDE, SIDE]))
    pictures = pictures_of(20)
    vectors = encoder.encode(pictures)
    assert vectors.shape == (20, VISUAL)
    np.testing.assert_array_equal(PictureEncoder.load(tmp_path / "theirs.onnx").encode(pictures), vectors)
    assert parted(vectors)
    with pytest.raises(ConfigError, match=r"float32\[n, 3, 64, 64\]"):
        PictureEncoder.load(foreign(tmp_path / "other.onnx", ["n", 3, 32, 32]))
