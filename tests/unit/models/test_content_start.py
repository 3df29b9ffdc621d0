"""The start of content's embeddings is the ridge regression that it claims to be."""

import numpy as np
import pytest

from models.content_start import PICTURE, RIDGE, WELL_KNOWN, content_start
from models.video_inputs import TOKENS, VISUAL, VideoInputs


def inputs_of(n: int, visual: bool = True) -> VideoInputs:
    rng = np.random.default_rng(0)
    tokens = np.zeros((n, TOKENS), np.int64)
    tokens[:, :2] = rng.integers(0, 6, (n, 2))
    codes = [rng.integers(0, 4, n) for _ in range(3)]
    looks = rng.normal(size=(n, VISUAL)).astype(np.float32) * visual
    return VideoInputs(tokens, *codes, np.zeros(n, np.int64), looks)


def explained(inputs: VideoInputs, tables: dict[str, np.ndarray]) -> np.ndarray:
    """What the tower's sum of content would be."""
    there = (inputs.tokens > 0)[..., None]
    words = (tables["tokens"][inputs.tokens] * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    about = sum(tables[name][getattr(inputs, name)] for name in ("creator", "category", "duration"))
    return words + about + inputs.visual @ tables["visual"].T


def dense(inputs: VideoInputs) -> np.ndarray:
    """The same design as a plain matrix, a column for each bucket in use."""
    n = len(inputs)
    there = inputs.tokens > 0
    words = np.stack([(inputs.tokens == t).sum(axis=1) for t in range(1, 6)], axis=1)
    blocks = [words / np.maximum(there.sum(axis=1, keepdims=True), 1)]
    blocks += [
        (getattr(inputs, name)[:, None] == np.arange(1, 4)) for name in ("creator", "category", "duration")
    ]
    return np.column_stack([*blocks, PICTURE * inputs.visual]).reshape(n, -1)


def test_it_comes_to_the_weighted_ridge_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.content_start.ROUNDS", 200)
    inputs, rng = inputs_of(80), np.random.default_rng(1)
    directions = rng.normal(size=(80, 5)).astype(np.float32)
    engagements = rng.integers(0, 2 * WELL_KNOWN, 80)
    found = explained(inputs, content_start(inputs, directions, engagements))
    design, weight = dense(inputs), np.minimum(engagements, WELL_KNOWN) / WELL_KNOWN
    left = design.T @ (weight[:, None] * design) + RIDGE * np.eye(design.shape[1])
    expected = design @ np.linalg.solve(left, design.T @ (weight[:, None] * directions))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_video_that_nobody_took_is_where_its_like_are() -> None:
    inputs = inputs_of(60, visual=False)
    inputs.category[:] = np.arange(60) % 2 + 1
    directions = np.eye(2, dtype=np.float32)[np.arange(60) % 2]
    engagements = np.full(60, 50)
    engagements[:4] = 0
    directions[:4] = 0
    found = explained(inputs, content_start(inputs, directions, engagements))
    assert (found[:4].argmax(axis=1) == np.arange(4) % 2).all()


def test_unknown_content_stays_nothing() -> None:
    inputs = inputs_of(30)
    tables = content_start(inputs, np.ones((30, 3), np.float32), np.full(30, 9))
    for name in ("tokens", "creator", "category", "duration"):
        assert not tables[name][0].any()
    assert not content_start(inputs, np.zeros((30, 3), np.float32), np.zeros(30, int))["visual"].any()
