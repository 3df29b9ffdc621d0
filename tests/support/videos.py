"""Small catalogues and viewers made by hand."""

import numpy as np
import pyarrow as pa

from models.catalogue import Catalogue
from models.history import Histories
from serving.viewer import SEEN, Viewer
from upnext.contracts import VIDEOS

NOW = 1_700_000_000_000_000
"""µs since the epoch."""
DAY_US = 86_400_000_000


def catalogue_of(count, age_days=None, **columns):
    """Videos v000, v001, … one day apart, the first the oldest; any column of VIDEOS may be given."""
    ages = age_days if age_days is not None else [10 + count - i for i in range(count)]
    given = {
        "video_id": [f"v{i:03}" for i in range(count)],
        "uploaded_at": [NOW - int(age * DAY_US) for age in ages],
        "status": ["active"] * count,
        "duration_ms": [60_000] * count,
    } | {name: list(values) for name, values in columns.items()}
    arrays = [
        pa.array(given.get(field.name, [None] * count), pa.int64()).cast(field.type)
        if field.name == "uploaded_at"
        else pa.array(given.get(field.name, [None] * count), field.type)
        for field in VIDEOS
    ]
    return Catalogue.of(pa.table(arrays, schema=VIDEOS))


def past_of(rows=(), strength=None, age_s=None, length=SEEN):
    """One viewer's past, newest first."""
    past = Histories.empty(1, length)
    n = len(rows)
    past.rows[0, :n] = rows
    past.strength[0, :n] = strength if strength is not None else np.ones(n)
    past.age_s[0, :n] = age_s if age_s is not None else 60.0 * np.arange(n)
    return past


def viewer_of(rows=(), strength=None, age_s=None, features=(), **asked):
    """A viewer with a past."""
    past = past_of(rows, strength, age_s)
    return Viewer("u", NOW, past, np.asarray(features, np.float32), **asked)
