"""The packed features over every adapter of the online-features port."""

import re
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from feature_repo.packed import ASK_AGAIN_US, PackedFeatures, spec_defaults
from feature_repo.specs import VIDEO, VIDEO_VIEW
from models.layout import FeatureLayout
from upnext.errors import CorruptData, LayoutMismatch
from upnext.ports import OnlineFeatures

LAYOUT = FeatureLayout.typed([("a", "float32"), ("b", "float16"), ("c", "float32")])
IDS = ["v1", "v2", "v3"]
ROWS = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)


PORT = "online_features"


@pytest.fixture
def port(site: Any) -> OnlineFeatures:
    opened: OnlineFeatures = site.open()
    return opened


def packed(port: OnlineFeatures, layout: FeatureLayout = LAYOUT) -> PackedFeatures:
    return PackedFeatures(port, {"view": layout}, {"view": np.array([-1, -2, -3], np.float32)})


def test_rows_come_back_in_the_order_asked_for(port: OnlineFeatures) -> None:
    features = packed(port)
    features.write_matrix("view", IDS, ROWS, 5)
    np.testing.assert_array_equal(features.read_matrix("view", ["v3", "v1", "v3"]), ROWS[[2, 0, 2]])
    assert features.count("view") == 3
    assert features.unpack("view", features.read("view", IDS)).timestamps.tolist() == [5, 5, 5]


def test_missing_entities_get_the_defaults_and_are_counted(port: OnlineFeatures) -> None:
    features = packed(port)
    features.write_matrix("view", IDS, ROWS, 0)
    rows = features.read_matrix("view", ["new", "v2", "newer"])
    np.testing.assert_array_equal(rows, [[-1, -2, -3], [4, 5, 6], [-1, -2, -3]])
    assert features.lacks == {("view", "missing"): 2}


def test_an_empty_store_and_an_empty_request(port: OnlineFeatures) -> None:
    features = packed(port)
    np.testing.assert_array_equal(features.read_matrix("view", ["v1"]), [[-1, -2, -3]])
    assert features.read_matrix("view", []).shape == (0, 3)


def test_another_layout_is_refused_and_lives_beside(port: OnlineFeatures) -> None:
    packed(port).write_matrix("view", IDS, ROWS, 0)
    other = packed(port, FeatureLayout.of(["a", "b", "d"]))
    with pytest.raises(LayoutMismatch, match="materialise again"):
        other.read_matrix("view", IDS)
    other.write_matrix("view", IDS, ROWS + 1, 0)
    np.testing.assert_array_equal(other.read_matrix("view", IDS), ROWS + 1)
    np.testing.assert_array_equal(packed(port).read_matrix("view", IDS), ROWS)
    assert len(other.versions("view")) == 2
    other.drop("view")
    assert other.versions("view") == []


def test_what_the_store_holds_is_not_asked_with_every_unknown_id(
    port: OnlineFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked, views = [0], list[int](), port.views
    features = PackedFeatures(port, {"view": LAYOUT}, now=lambda: now[0])
    features.write_matrix("view", IDS, ROWS, 0)
    monkeypatch.setattr(port, "views", lambda: asked.append(now[0]) or views())
    for now[0] in (0, 1, ASK_AGAIN_US - 1, ASK_AGAIN_US, ASK_AGAIN_US + 1):
        assert not features.read_matrix("view", ["nobody"]).any()
    assert asked == [0, ASK_AGAIN_US]
    features.drop("view")
    packed(port, FeatureLayout.of(["a", "b", "d"])).write_matrix("view", IDS, ROWS, 0)
    with pytest.raises(LayoutMismatch, match="materialise again"):
        features.read_matrix("view", ["nobody"])


def test_what_cannot_be_used_takes_the_defaults_and_is_counted_by_reason(port: OnlineFeatures) -> None:
    told: list[tuple[str, str, int]] = []
    features = PackedFeatures(
        port,
        {"view": LAYOUT},
        {"view": np.array([-1, -2, -3], np.float32)},
        now=lambda: 2_000_000,
        on_lack=lambda *what: told.append(what),
    )
    ids = ["good", "foreign", "torn", "late", "nobody", "soon late"]
    features.write_matrix("view", ids[:1], ROWS[:1], 5)
    features.write_matrix("view", ["late"], ROWS[1:2], 1_000_000, timedelta(seconds=1))
    features.write_matrix("view", ["soon late"], ROWS[2:], 1_000_001, timedelta(seconds=1))
    (name,) = features.versions("view")
    other = FeatureLayout.typed([("x", "float32"), ("y", "float16"), ("z", "float32")])
    port.put(name, ["foreign", "torn"], [other.pack(ROWS[:1])[0], b"torn"])
    rows = features.read_matrix("view", ids)
    lacking = [-1, -2, -3]
    np.testing.assert_array_equal(rows, [ROWS[0], lacking, lacking, lacking, lacking, ROWS[2]])
    assert told == [("view", "missing", 1), ("view", "expired", 1), ("view", "corrupt", 2)]
    assert dict(features.lacks) == {tuple(what[:2]): what[2] for what in told}
    own = np.arange(18, dtype=np.float32).reshape(6, 3)
    np.testing.assert_array_equal(features.read_matrix("view", ids, own)[1:5], own[1:5])


@pytest.mark.parametrize(("column", "value"), [(0, np.nan), (2, np.inf), (1, 70_000.0)])
def test_what_cannot_be_held_is_refused_as_a_whole(port: OnlineFeatures, column: int, value: float) -> None:
    rows = ROWS.copy()
    rows[1, column] = value
    with pytest.raises(CorruptData, match=re.escape(f"{'abc'[column]} of 'v2' is {rows[1, column]}")):
        packed(port).write_matrix("view", IDS, rows, 0)
    assert packed(port).count("view") == 0


def test_rows_of_another_width_are_refused(port: OnlineFeatures) -> None:
    with pytest.raises(LayoutMismatch, match="3 features"):
        packed(port).write_matrix("view", IDS, ROWS[:, :2], 0)


def test_declared_defaults_follow_the_layout_by_name() -> None:
    defaults = spec_defaults(VIDEO_VIEW, FeatureLayout.of(["ctr", "age_h", "unheard_of"]))
    assert defaults.tolist() == [0.0, -1.0, 0.0]
    assert spec_defaults("other", LAYOUT).tolist() == [0, 0, 0]
    assert len(spec_defaults(VIDEO_VIEW, FeatureLayout.of(VIDEO.names))) == len(VIDEO.names)


def test_float32_survives_bit_by_bit(port: OnlineFeatures) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, (500, 2), dtype=np.uint32)
    rows = bits.view(np.float32)
    rows = rows[np.isfinite(rows).all(axis=1)]
    ids = [f"e{n}" for n in range(len(rows))]
    features = PackedFeatures(port, {"view": FeatureLayout.of(["x", "y"])})
    features.write_matrix("view", ids, rows, 0)
    assert features.read_matrix("view", ids).tobytes() == rows.tobytes()
