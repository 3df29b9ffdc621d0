"""How the features of one video or user lie in one packed value of the online store.

A value is a header of 24 bytes, then the fields at their offsets, little-endian:

    0   8   first eight bytes of the layout's hash
    8   8   int64, when the features held, in µs since the epoch
    16  8   int64, until when they may be used, in µs since the epoch; NEVER where they stay good

A value of another length or under another layout's mark is never misread: it counts as corrupt.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.halves import widen
from upnext.errors import ConfigError, CorruptData, LayoutMismatch

FORMAT = 2
"""Of the header; part of the name that a view is stored under."""
WIDTHS = {"float32": 4, "float16": 2}
HEADER_DTYPE = np.dtype([("layout", "<u8"), ("timestamp", "<i8"), ("expiry", "<i8")])
HEADER = HEADER_DTYPE.itemsize
FLOAT16_MAX = float(np.finfo(np.float16).max)
NEVER = int(np.iinfo(np.int64).max)
"""Expiry of what stays good."""
FOUND, MISSING, EXPIRED, CORRUPT = range(4)
_ABSENT, _BROKEN = np.uint64(2**64 - 1), np.uint64(2**64 - 2)
"""Marks of what stands for no value, and for one that is corrupt."""
LACKS = {MISSING: "missing", EXPIRED: "expired", CORRUPT: "corrupt"}
"""Why a value could not be used -> its name in counts."""


@dataclass(frozen=True)
class Field:
    """One feature: its name, ``float32`` or ``float16``, and its offset in bytes after the header."""

    name: str
    dtype: str
    offset: int


@dataclass(frozen=True)
class Unpacked:
    """What n values held.

    rows: float32[n, d], defaults where a value could not be used; lack: uint8[n], FOUND or one of LACKS;
    timestamps: int64[n], when the features held, µs since the epoch; 0 where there is no value.
    """

    rows: NDArray[np.float32]
    lack: NDArray[np.uint8]
    timestamps: NDArray[np.int64]

    def put(self, places: NDArray[np.int64], other: "Unpacked") -> None:
        """Put what other values held at int64[m] places; before anybody asks what is lacking."""
        self.rows[places], self.lack[places] = other.rows, other.lack
        self.timestamps[places] = other.timestamps

    @cached_property
    def lacks(self) -> dict[str, int]:
        """How many values could not be used, by the reason's name; empty when all could."""
        if not self.lack.any():
            return {}
        counts = np.bincount(self.lack, minlength=len(LACKS) + 1)
        return {name: int(counts[kind]) for kind, name in LACKS.items() if counts[kind]}


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

    def pack(
        self,
        rows: NDArray[np.float32],
        timestamps: NDArray[np.int64] | int = 0,
        expiries: NDArray[np.int64] | int = NEVER,
    ) -> list[bytes]:
        """One value per row of float32[n, d]; times int64[n] or one for all, µs since the epoch."""
        packed = self.pack_array(rows, timestamps, expiries).tobytes()
        return [packed[start : start + self.size] for start in range(0, len(packed), self.size)]

    def pack_array(
        self,
        rows: NDArray[np.float32],
        timestamps: NDArray[np.int64] | int = 0,
        expiries: NDArray[np.int64] | int = NEVER,
    ) -> NDArray[np.uint8]:
        """As :meth:`pack`, in one uint8[n, size]. What float16 cannot hold is clipped to its range."""
        rows = np.asarray(rows, np.float32)
        records = np.zeros(len(rows), self._record)
        records["layout"], records["timestamp"], records["expiry"] = self._mark, timestamps, expiries
        self._fill(records, rows)
        return records.view(np.uint8).reshape(len(rows), self.size)

    def pack_bare(self, rows: NDArray[np.float32]) -> NDArray[np.void]:
        """Only the features of float32[n, d], without headers: void[n], for :meth:`unpack_bare`."""
        rows = np.asarray(rows, np.float32)
        records = np.zeros(len(rows), self._bare)
        self._fill(records, rows)
        return records.view(self.bare)

    def unpack_bare(self, records: NDArray[np.void]) -> NDArray[np.float32]:
        """Features of void[n] as :meth:`pack_bare` makes them, float32[n, d]."""
        return self._floats(records.view(self._bare))

    @cached_property
    def bare(self) -> np.dtype[np.void]:
        """One row without its header as an opaque element: what numpy gathers fastest."""
        return np.dtype((np.void, self.size - HEADER))

    def unpack(self, value: bytes) -> NDArray[np.float32]:
        """The features of one value, float32[d]; LayoutMismatch when it is not of this layout."""
        unpacked = self.unpack_many([value])
        if unpacked.lack[0]:
            raise LayoutMismatch(
                f"a value of {len(value)} bytes, marked {value[:8].hex()}: this layout's have {self.size} "
                f"and begin with {self._mark.to_bytes(8, 'little').hex()}; materialise again"
            )
        row: NDArray[np.float32] = unpacked.rows[0]
        return row

    def unpack_many(
        self, values: Sequence[bytes | None], defaults: NDArray[np.float32] | None = None, now: int = 0
    ) -> Unpacked:
        """What many values hold.

        Parameters
        ----------
        defaults
            float32[d], or float32[n, d] with a row per value, for what can't be used; nan where not given.
        now
            µs since the epoch: what has expired by then is not used.
        """
        if all(values):
            unpacked = self.unpack_joined(b"".join(values), len(values), defaults, now)  # type: ignore[arg-type]
            if unpacked is not None:
                return unpacked
        return self.unpack_array(self.gathered(values), defaults, now)

    def gathered(self, values: Sequence[bytes | None]) -> NDArray[np.uint8]:
        """Many values in one uint8[n, size], under marks of their own what is missing and what is corrupt."""
        mark = self._mark.to_bytes(8, "little")
        whole = (
            self.absent
            if value is None
            else value
            if len(value) == self.size and value.startswith(mark)
            else self._broken
            for value in values
        )
        return np.frombuffer(b"".join(whole), np.uint8).reshape(len(values), self.size)

    def unpack_joined(
        self, joined: bytes, number: int, defaults: NDArray[np.float32] | None = None, now: int = 0
    ) -> Unpacked | None:
        """As :meth:`unpack_many`, of values one after the other, :attr:`absent` where there is none.

        None where one of them is corrupt: they can't be told apart then.
        """
        if len(joined) != number * self.size:
            return None
        values = np.frombuffer(joined, np.uint8).reshape(number, self.size)
        unpacked = self.unpack_array(values, defaults, now)
        return None if LACKS[CORRUPT] in unpacked.lacks else unpacked  # one cut, another too long?

    def unpack_array(
        self, values: NDArray[np.uint8], defaults: NDArray[np.float32] | None = None, now: int = 0
    ) -> Unpacked:
        """As :meth:`unpack_many`, of uint8[n, size] as :meth:`gathered` makes them."""
        heads = values[:, :HEADER].copy().view(HEADER_DTYPE).reshape(len(values))
        rows = self._floats(values.view(self._record).reshape(len(values)))
        lack = np.zeros(len(values), np.uint8)
        good = (heads["layout"] == self._mark) & (heads["expiry"] > now)
        if not good.all():
            lack[~good] = EXPIRED
            wrong = heads["layout"] != self._mark
            lack[wrong] = np.where(heads["layout"][wrong] == _ABSENT, MISSING, CORRUPT)
            rows = rows if rows.flags.writeable else rows.copy()
            stand_in = np.full(self.width, np.nan, np.float32) if defaults is None else defaults
            rows[~good] = stand_in[~good] if stand_in.ndim > 1 else stand_in
        return Unpacked(rows, lack, heads["timestamp"])

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
    def absent(self) -> bytes:
        """Stands for a missing value among those that are joined: no value, under a mark of its own."""
        return self._empty(_ABSENT)

    @cached_property
    def _broken(self) -> bytes:
        return self._empty(_BROKEN)

    def _empty(self, mark: np.uint64) -> bytes:
        records = np.zeros(1, self._record)
        records["layout"], records["expiry"] = mark, NEVER
        return records.tobytes()

    @cached_property
    def _runs(self) -> list[tuple[int, int]]:
        """Neighbouring fields of one dtype without a gap: (first, past the last)."""
        starts = [0] if self.fields else []
        for place, (before, field) in enumerate(pairwise(self.fields), 1):
            if (field.dtype, field.offset) != (before.dtype, before.offset + WIDTHS[before.dtype]):
                starts.append(place)
        return list(pairwise([*starts, self.width])) if starts else []

    @cached_property
    def _bare(self) -> np.dtype[Any]:
        """A row without its header as numpy sees it: field i is run i."""
        return self._structure(0)

    @cached_property
    def _record(self) -> np.dtype[Any]:
        """A whole value as numpy sees it."""
        return self._structure(HEADER)

    def _structure(self, header: int) -> np.dtype[Any]:
        names: list[str] = list(HEADER_DTYPE.names or ()) if header else []
        formats: list[Any] = [HEADER_DTYPE[name] for name in names]
        offsets = [place * 8 for place in range(len(names))]
        for number, (first, last) in enumerate(self._runs):
            names.append(str(number))
            formats.append((f"<f{WIDTHS[self.fields[first].dtype]}", (last - first,)))
            offsets.append(header + self.fields[first].offset)
        itemsize = self.size - HEADER + header
        return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize})

    def _fill(self, records: NDArray[Any], rows: NDArray[np.float32]) -> None:
        """Put float32[n, d] into the runs of n records."""
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise LayoutMismatch(f"rows have the shape {rows.shape}: this layout has {self.width} features")
        for number, (first, last) in enumerate(self._runs):
            part = rows[:, first:last]
            half = self.fields[first].dtype == "float16"
            records[str(number)] = np.clip(part, -FLOAT16_MAX, FLOAT16_MAX) if half else part

    def _floats(self, records: NDArray[Any]) -> NDArray[np.float32]:
        """The runs of n records side by side, float32[n, d]; a view of them where they are that already."""
        parts = [records[str(number)] for number in range(len(self._runs))]
        parts = [widen(part) if part.dtype == np.float16 else part for part in parts]
        if len(parts) == 1:
            return np.ascontiguousarray(parts[0])
        return np.concatenate([np.empty((len(records), 0), np.float32), *parts], axis=1)
