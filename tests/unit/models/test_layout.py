"""Packed feature values: what goes in comes out, and a value of another layout is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.layout import HEADER, FeatureLayout, Field
from upnext.errors import ConfigError, CorruptData, LayoutMismatch

MIXED = FeatureLayout.typed(
    [("views", "float32"), ("likes", "float32"), ("ctr", "float16"), ("age", "float16"), ("mean", "float32")]
)


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 20), st.just(3))))
def test_float32_rows_survive_bit_for_bit(rows: np.ndarray) -> None:
    layout = FeatureLayout.of(["a", "b", "c"])
    np.testing.assert_array_equal(layout.unpack_many(layout.pack(rows)), rows)


def test_float16_fields_keep_three_digits_and_clip_what_does_not_fit() -> None:
    row = np.array([[1e9, np.nan, 0.12345, 1e9, -7]], np.float32)
    np.testing.assert_allclose(MIXED.unpack(MIXED.pack(row)[0]), [1e9, np.nan, 0.12345, 65504, -7], rtol=1e-3)


def test_a_value_is_a_header_and_the_fields_at_their_offsets() -> None:
    value = MIXED.pack(np.array([[1, 2, 3, 4, 5]], np.float32), 1_700_000_000_000_000)[0]
    assert len(value) == MIXED.size == HEADER + 16
    assert value[:8].hex() == MIXED.hash[:16]
    assert int.from_bytes(value[8:16], "little") == 1_700_000_000_000_000
    assert np.frombuffer(value[24:28], "<f2").tolist() == [3, 4]
    assert np.frombuffer(value[28:32], "<f4").tolist() == [5]


def test_gaps_between_fields_are_left_alone() -> None:
    layout = FeatureLayout((Field("b", "float32", 8), Field("a", "float16", 0)))
    assert layout.unpack(layout.pack(np.array([[7, 3]], np.float32))[0]).tolist() == [7, 3]


def test_missing_values_take_the_defaults() -> None:
    layout = FeatureLayout.of(["a", "b"])
    packed = layout.pack(np.array([[1, 2]], np.float32), np.array([5]))
    values = [None, packed[0], None]
    assert layout.unpack_many(values, np.array([8, 9], np.float32)).tolist() == [[8, 9], [1, 2], [8, 9]]
    assert np.isnan(layout.unpack_many(values)[0]).all()
    assert layout.timestamps(values).tolist() == [0, 5, 0]


def test_no_values_give_no_rows() -> None:
    assert MIXED.unpack_many([]).shape == (0, 5)
    assert MIXED.pack(np.empty((0, 5), np.float32)) == []


def test_the_hash_depends_on_names_dtypes_and_offsets_alone() -> None:
    plain = FeatureLayout.of(["a", "b"])
    assert plain.hash == FeatureLayout((Field("a", "float32", 0), Field("b", "float32", 4))).hash
    others = [
        FeatureLayout.of(["b", "a"]),
        FeatureLayout.of(["a", "b"], "float16"),
        FeatureLayout((Field("a", "float32", 0), Field("b", "float32", 8))),
    ]
    assert len({plain.hash, *(other.hash for other in others)}) == 4
    assert plain.hash.startswith("f04f65cb"), "a known layout has a new hash: stored values would be refused"


@pytest.mark.parametrize("other", [["a", "x"], ["a", "b", "c"], ["b", "a"]])
def test_a_value_of_another_layout_is_refused(other: list[str]) -> None:
    layout, foreign = FeatureLayout.of(["a", "b"]), FeatureLayout.of(other)
    good = layout.pack(np.zeros((1, 2), np.float32))[0]
    bad = foreign.pack(np.zeros((1, len(other)), np.float32))[0]
    with pytest.raises(LayoutMismatch, match="value 1"):
        layout.unpack_many([good, bad])
    with pytest.raises(LayoutMismatch, match="materialise"):
        layout.require(foreign.hash, "the ranker")


def test_cut_and_padded_values_are_refused_even_when_the_sum_fits() -> None:
    layout = FeatureLayout.of(["a"])
    value = layout.pack(np.ones((1, 1), np.float32))[0]
    with pytest.raises(LayoutMismatch, match="value 0 has 19 bytes"):
        layout.unpack_many([value[:-1], value + b"\0"])


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(LayoutMismatch, match="5 features"):
        MIXED.pack(np.zeros((1, 4), np.float32))


def test_json_round_trip_and_edited_json() -> None:
    assert FeatureLayout.from_json(MIXED.to_json()) == MIXED
    with pytest.raises(CorruptData, match="edited"):
        FeatureLayout.from_json(MIXED.to_json().replace("likes", "loves"))
    with pytest.raises(CorruptData, match="not a feature layout"):
        FeatureLayout.from_json('{"fields": 3}')


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((Field("a", "float32", 0), Field("a", "float32", 4)), "names a twice"),
        ((Field("a", "float32", 0), Field("b", "float32", 2)), "offset of b is 2"),
        ((Field("a", "int8", 0),), "dtype of a is 'int8'"),
        ((Field("a", "float32", -4),), "offset of a is -4"),
    ],
)
def test_impossible_layouts_are_refused(fields: tuple[Field, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FeatureLayout(fields)
