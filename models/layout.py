"""How the features of one video or user lie in one packed value of the online store.

A value is a header of 16 bytes, then the fields at their offsets, little-endian:

    0   8   first eight bytes of the layout's hash
    8   8   int64, when the features held, in µs since the epoch

A value written under another layout is refused (:class:`~upnext.errors.LayoutMismatch`), never misread.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from typing import Self

import numpy as np
from numpy.typing import NDArray

from upnext.errors import ConfigError, CorruptData, LayoutMismatch

WIDTHS = {"float32": 4, "float16": 2}
HEADER = 16
FLOAT16_MAX = float(np.finfo(np.float16).max)

HEADER_DTYPE = np.dtype([("layout", "<u8"), ("timestamp", "<i8")])


@dataclass(frozen=True)
class Field:
    """One feature: its name, ``float32`` or ``float16``, and its offset in bytes after the header."""

    name: str
    dtype: str
    offset: int


@dataclass(frozen=True)
class FeatureLayout:
    """An ordered set of named features and their places in a packed value.

    Rows are float32[n, d] in the fields' order, with NaN where a feature is unknown.
    """

    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ConfigError(f"layout names {', '.join(twice)} twice: give each feature its own name")
        end = 0
        for field in sorted(self.fields, key=lambda field: field.offset):
            if field.dtype not in WIDTHS:
                raise ConfigError(f"dtype of {field.name} is {field.dtype!r}: use {' or '.join(WIDTHS)}")
            if field.offset < end:
                raise ConfigError(f"offset of {field.name} is {field.offset}: bytes up to {end} are taken")
            end = field.offset + WIDTHS[field.dtype]

    @classmethod
    def of(cls, names: Sequence[str], dtype: str = "float32") -> Self:
        """A layout of features of one dtype, one after the other."""
        return cls.typed([(name, dtype) for name in names])

    @classmethod
    def typed(cls, columns: Sequence[tuple[str, str]]) -> Self:
        """A layout of (name, dtype) one after the other."""
        offset, fields = 0, []
        for name, dtype in columns:
            fields.append(Field(name, dtype, offset))
            offset += WIDTHS.get(dtype, 0)
        return cls(tuple(fields))

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @cached_property
    def size(self) -> int:
        """Bytes of one packed value, header included."""
        return HEADER + max((field.offset + WIDTHS[field.dtype] for field in self.fields), default=0)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over names, dtypes and offsets, in hexadecimal; the same on every machine."""
        return sha256(self._canonical().encode()).hexdigest()

    @property
    def width(self) -> int:
        """Number of features, d."""
        return len(self.fields)

    def pack(self, rows: NDArray[np.float32], timestamps: NDArray[np.int64] | int = 0) -> list[bytes]:
        """One value per row of float32[n, d]; ``timestamps`` int64[n] or one for all, µs since the epoch."""
        packed = self.pack_array(rows, timestamps).tobytes()
        return [packed[start : start + self.size] for start in range(0, len(packed), self.size)]

    def pack_array(
        self, rows: NDArray[np.float32], timestamps: NDArray[np.int64] | int = 0
    ) -> NDArray[np.uint8]:
        """As :meth:`pack`, in one uint8[n, size]. What float16 cannot hold is clipped to its range."""
        rows = np.asarray(rows, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise LayoutMismatch(f"rows have the shape {rows.shape}: this layout has {self.width} features")
        out = np.zeros((len(rows), self.size), np.uint8)
        header = np.zeros(len(rows), HEADER_DTYPE)
        header["layout"], header["timestamp"] = self._mark, timestamps
        out[:, :HEADER] = header.view(np.uint8).reshape(len(rows), HEADER)
        for first, last, start, dtype in self._runs:
            part = rows[:, first:last]
            if dtype == "<f2":
                part = np.clip(part, -FLOAT16_MAX, FLOAT16_MAX)
            part = np.ascontiguousarray(part, dtype)
            out[:, start : start + part.itemsize * (last - first)] = part.view(np.uint8)
        return out

    def unpack(self, value: bytes) -> NDArray[np.float32]:
        """The features of one value, float32[d]."""
        row: NDArray[np.float32] = self.unpack_many([value])[0]
        return row

    def unpack_many(
        self, values: Sequence[bytes | None], defaults: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Features of many values, float32[n, d]; ``defaults`` float32[d] (else NaN) where there is none."""
        raw = self._matrix(values)
        out = np.empty((len(values), self.width), np.float32)
        for first, last, start, dtype in self._runs:
            stop = start + np.dtype(dtype).itemsize * (last - first)
            out[:, first:last] = np.ascontiguousarray(raw[:, start:stop]).view(dtype)
        if None in values:
            out[[value is None for value in values]] = np.nan if defaults is None else defaults
        return out

    def timestamps(self, values: Sequence[bytes | None]) -> NDArray[np.int64]:
        """When the features held, int64[n] in µs since the epoch; 0 where there is no value."""
        header = np.ascontiguousarray(self._matrix(values)[:, :HEADER]).view(HEADER_DTYPE)
        stamps: NDArray[np.int64] = header["timestamp"].reshape(-1).astype(np.int64)
        return stamps

    def to_json(self) -> str:
        return json.dumps({"hash": self.hash, "fields": [asdict(field) for field in self.fields]}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The layout that :meth:`to_json` wrote; CorruptData when it is not one or its hash differs."""
        try:
            parsed = json.loads(text)
            layout = cls(tuple(Field(**field) for field in parsed["fields"]))
            named = parsed["hash"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptData(f"not a feature layout: {error}; write it again with to_json") from error
        if named != layout.hash:
            raise CorruptData(
                f"layout says its hash is {named}, its fields give {layout.hash}: it was edited"
            )
        return layout

    def require(self, other_hash: str, whose: str) -> None:
        """Raise LayoutMismatch unless ``whose`` layout has this one's hash."""
        if other_hash != self.hash:
            raise LayoutMismatch(
                f"{whose} has the feature layout {other_hash[:16]}, in use is {self.hash[:16]}: "
                "materialise and train again, so that both are of one layout"
            )

    def _canonical(self) -> str:
        return json.dumps([[field.name, field.dtype, field.offset] for field in self.fields])

    @cached_property
    def _mark(self) -> int:
        return int.from_bytes(bytes.fromhex(self.hash[:16]), "little")

    @cached_property
    def _empty(self) -> bytes:
        return self.pack(np.zeros((1, self.width), np.float32))[0]

    @cached_property
    def _runs(self) -> list[tuple[int, int, int, str]]:
        """Neighbouring fields of one dtype without a gap: (first, past the last, byte, numpy's dtype)."""
        runs: list[tuple[int, int, int, str]] = []
        for place, field in enumerate(self.fields):
            dtype, start = f"<f{WIDTHS[field.dtype]}", HEADER + field.offset
            if runs:
                first, last, begin, previous = runs[-1]
                if dtype == previous and start == begin + (last - first) * WIDTHS[field.dtype]:
                    runs[-1] = (first, place + 1, begin, dtype)
                    continue
            runs.append((place, place + 1, start, dtype))
        return runs

    def _matrix(self, values: Sequence[bytes | None]) -> NDArray[np.uint8]:
        """All values in one uint8[n, size], each checked to be of this layout."""
        empty = self._empty
        present = [empty if value is None else value for value in values]
        if set(map(len, present)) - {self.size}:
            place = next(i for i, value in enumerate(present) if len(value) != self.size)
            raise LayoutMismatch(
                f"value {place} has {len(present[place])} bytes, this layout's have {self.size}: "
                "it was written under another layout; materialise again"
            )
        raw = np.frombuffer(b"".join(present), np.uint8).reshape(len(values), self.size)
        marks = np.ascontiguousarray(raw[:, :8]).view("<u8").reshape(-1)
        if len(marks) and (marks != self._mark).any():
            place = int(np.argmax(marks != self._mark))
            raise LayoutMismatch(
                f"value {place} was written under the layout {present[place][:8].hex()}, "
                f"in use is {self.hash[:16]}: materialise again"
            )
        return raw
