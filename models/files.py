"""Reading a model's files: one answer to what is missing and what is broken."""

from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path
from typing import Any, Literal, TypeVar, cast
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from upnext.errors import CorruptData, MissingData

T = TypeVar("T", bound=np.generic)
BROKEN = (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, BadZipFile)
"""What numpy, zipfile, json and FAISS raise for bytes that are not theirs."""


@contextmanager
def arrays_of(file: Path) -> Iterator[NpzFile]:
    """Arrays of a .npz file by name. numpy itself leaves a broken one open."""
    with file.open("rb") as content, np.load(content) as arrays:
        yield arrays


def mapped_anew(array: NDArray[T]) -> NDArray[T]:
    """A memory-mapped file's array through a mapping of its own, so that pages go when it is read through.

    What was ever touched of a mapping stays in memory with it. Other arrays are given back as they are.
    """
    held: object = array.base
    if not (isinstance(array, np.memmap) and isinstance(held, mmap) and array.filename):
        return array
    order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
    anew: Any = np.memmap(array.filename, array.dtype, "r", array.offset, array.shape, order)
    return cast(NDArray[T], anew)


@contextmanager
def reading(what: str, place: Path, *parts: str, remedy: str = "") -> Iterator[None]:
    """MissingData where the file ``place``, or a part of that folder, is not there; CorruptData for BROKEN.

    Parameters
    ----------
    what
        Its name in messages, such as "ALS model".
    remedy
        What to do where it is missing.
    """
    absent = [part for part in parts if not (place / part).is_file()]
    if absent or not (parts or place.is_file()):
        lacking = f" (it lacks {', '.join(absent)})" if absent else ""
        raise MissingData(f"no {what} at {place}{lacking}" + (f": {remedy}" if remedy else ""))
    try:
        yield
    except BROKEN as error:
        raise CorruptData(f"the {what} at {place} can't be read: {error}") from error
