"""Thumbnails from files: bounded in what is read, and a broken one is refused, not fatal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from upnext.sources.base import Thumbnails
from upnext.sources.checks import quarantine

SIDE = 64
MOST_BYTES = 5_000_000
"""Size of a file above which it is no thumbnail."""
MOST_PIXELS = 20_000_000
"""Width times height above which a picture is not decoded, however small its file."""


def read_thumbnails(
    folder: Path, video_ids: Sequence[str], urls: Mapping[str, str], source: str
) -> Thumbnails:
    """Pictures of some videos by their URLs: paths below ``folder``, relative or as ``file://``.

    Other schemes and videos without a URL have no picture. What lies outside the folder, is not there, too
    large or no picture is refused with its reason; ``source`` is noted beside it.
    """
    pixels = np.zeros((len(video_ids), SIDE, SIDE, 3), np.uint8)
    there = np.zeros(len(video_ids), np.bool_)
    rows: list[dict[str, str]] = []
    reasons: list[str] = []
    for place, video in enumerate(video_ids):
        url = urls.get(video, "")
        try:
            if not url or urlsplit(url).scheme not in {"", "file"}:
                continue
            pixels[place] = _read(_inside(folder, url))
            there[place] = True
        except (
            OSError,
            ValueError,
            SyntaxError,
            RuntimeError,  # a loop of links
            Image.DecompressionBombError,
        ) as error:
            rows.append({"video_id": video, "thumbnail_url": url})
            reasons.append(f"thumbnail_url {_reason(error)}")
    return Thumbnails(pixels, there, quarantine(pa.Table.from_pylist(rows), "videos", reasons, source))


def _inside(folder: Path, url: str) -> Path:
    parts = urlsplit(url)
    path = Path(unquote(parts.path)) if parts.scheme else Path(url)
    file = (folder / path).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError("is outside the source's folder")
    if not file.is_file():
        raise ValueError("names no file")
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"is of more than {MOST_BYTES} bytes")
    return file


def _read(file: Path) -> NDArray[np.uint8]:
    """uint8[64, 64, 3], squeezed to a square."""
    with Image.open(file) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError(f"is of more than {MOST_PIXELS} pixels")
        picture.draft("RGB", (2 * SIDE, 2 * SIDE))  # JPEG only: decodes at a fraction of the size
        small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.asarray(small, np.uint8)


def _reason(error: Exception) -> str:
    """A reason that is the same for every file of its kind."""
    ours = isinstance(error, ValueError) and str(error).startswith(("is ", "names "))
    return str(error) if ours else "can't be read as a picture"
