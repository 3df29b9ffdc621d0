"""Packed feature values: what goes in comes out, and a value of another layout is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.halves import widen
from models.layout import CORRUPT, EXPIRED, FOUND, HEADER, NEVER, FeatureLayout, Field
from upnext.errors import ConfigError, CorruptData, LayoutMismatch

MIXED = FeatureLayout.typed(
    [("views", "float32"), ("likes", "float32"), ("ctr", "float16"), ("age", "float16"), ("mean", "float32")]
)


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 20), st.just(3))))
def test_float32_rows_survive_bit_for_bit(rows: np.ndarray) -> None:
    layout = FeatureLayout.of(["a", "b", "c"])
    np.testing.assert_array_equal(layout.unpack_many(layout.pack(rows)).rows, rows)


def test_float16_fields_keep_three_digits_and_clip_what_does_not_fit() -> None:
    row = np.array([[1e9, np.nan, 0.12345, 1e9, -7]], np.float32)
    np.testing.assert_allclose(MIXED.unpack(MIXED.pack(row)[0]), [1e9, np.nan, 0.12345, 65504, -7], rtol=1e-3)


def test_a_value_is_a_header_and_the_fields_at_their_offsets() -> None:
    value = MIXED.pack(np.array([[1, 2, 3, 4, 5]], np.float32), 1_700_000_000_000_000)[0]
    assert len(value) == MIXED.size == HEADER + 16
    assert value[:8].hex() == MIXED.hash[:16]
    assert int.from_bytes(value[8:16], "little") == 1_700_000_000_000_000
    assert int.from_bytes(value[16:24], "little") == NEVER
    assert np.frombuffer(value[32:36], "<f2").tolist() == [3, 4]
    assert np.frombuffer(value[36:40], "<f4").tolist() == [5]


def test_gaps_between_fields_are_left_alone() -> None:
    layout = FeatureLayout((Field("b", "float32", 8), Field("a", "float16", 0)))
    assert layout.unpack(layout.pack(np.array([[7, 3]], np.float32))[0]).tolist() == [7, 3]


def test_missing_values_take_the_defaults() -> None:
    layout = FeatureLayout.of(["a", "b"])
    packed = layout.pack(np.array([[1, 2]], np.float32), np.array([5]))
    values = [None, packed[0], None]
    unpacked = layout.unpack_many(values, np.array([8, 9], np.float32))
    assert unpacked.rows.tolist() == [[8, 9], [1, 2], [8, 9]]
    assert unpacked.lacks == {"missing": 2}
    assert unpacked.timestamps.tolist() == [0, 5, 0]
    assert np.isnan(layout.unpack_many(values).rows[0]).all()


def test_no_values_give_no_rows() -> None:
    assert MIXED.unpack_many([]).rows.shape == (0, 5)
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
def test_a_value_of_another_layout_is_never_misread(other: list[str]) -> None:
    layout, foreign = FeatureLayout.of(["a", "b"]), FeatureLayout.of(other)
    good = layout.pack(np.ones((1, 2), np.float32))[0]
    bad = foreign.pack(np.zeros((1, len(other)), np.float32))[0]
    unpacked = layout.unpack_many([good, bad], np.array([8, 9], np.float32))
    assert unpacked.rows.tolist() == [[1, 1], [8, 9]]
    assert unpacked.lack.tolist() == [FOUND, CORRUPT]
    with pytest.raises(LayoutMismatch, match=bad[:8].hex()):
        layout.unpack(bad)
    with pytest.raises(LayoutMismatch, match="materialise"):
        layout.require(foreign.hash, "the ranker")


def test_cut_and_padded_values_are_corrupt_even_when_the_sum_fits() -> None:
    layout = FeatureLayout.of(["a"])
    value = layout.pack(np.ones((1, 1), np.float32))[0]
    assert layout.unpack_many([value[:-1], value + b"\0"]).lacks == {"corrupt": 2}


def test_a_value_expires_with_its_last_microsecond() -> None:
    layout = FeatureLayout.of(["a"])
    values = layout.pack(np.array([[1], [2]], np.float32), 5, np.array([10, NEVER]))
    assert layout.unpack_many(values, now=9).rows.tolist() == [[1], [2]]
    assert layout.unpack_many(values, np.zeros(1, np.float32), now=10).rows.tolist() == [[0], [2]]
    assert layout.unpack_many(values, now=NEVER - 1).lack.tolist() == [EXPIRED, FOUND]


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.just(5)), elements=st.floats(-9, 9, width=32)))
def test_rows_without_headers_are_those_with(rows: np.ndarray) -> None:
    bare = MIXED.pack_bare(rows)
    assert bare.dtype.itemsize == MIXED.size - HEADER
    np.testing.assert_array_equal(MIXED.unpack_bare(bare), MIXED.unpack_many(MIXED.pack(rows)).rows)


def test_every_half_is_widened_exactly() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    with np.errstate(invalid="ignore"):
        expected = halves.astype(np.float32)
    finite = np.isfinite(halves)
    np.testing.assert_array_equal(widen(halves[finite]), expected[finite])
    np.testing.assert_array_equal(widen(halves), expected)
    np.testing.assert_array_equal(widen(halves.reshape(64, -1)[:, 3:9]), expected.reshape(64, -1)[:, 3:9])
    assert widen(np.empty((0, 3), np.float16)).shape == (0, 3)


@pytest.mark.parametrize("wild", [0x7C00, 0xFC00, 0x7C01, 0xFE00])
def test_one_half_without_end_or_number_among_others_is_kept(wild: int) -> None:
    halves = np.array([1, wild, 0xFBFF], np.uint16)  # 0xFBFF: the lowest that is finite
    halves[0] = np.float16(1).view(np.uint16)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(
            widen(halves.view(np.float16)), halves.view(np.float16).astype(np.float32)
        )


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
