"""Features of videos that came after a snapshot: what is told of them, and what is known of their creators.

How they were received is that of a video that nobody was shown, as the snapshot has it: rates at their means.
"""

import numpy as np
from numpy.typing import NDArray

from feature_repo.packed import spec_defaults
from feature_repo.specs import VIDEO_VIEW
from feature_repo.vectors import VideoVectors
from models.catalogue import Catalogue
from models.layout import FeatureLayout
from upnext.times import HOUR_US

UNSEEN = ("impressions_30d", "watches_30d")
"""Features that are 0 for a video that nobody was shown."""
NEWEST = 20_000
"""Known videos among which such a one is looked for: the table may be mapped from a large file."""
OF_CREATOR = "creator_"
HASH = "creator_hash"


class UnseenVideos:
    """Makes features of new videos out of a snapshot's. features: float32[n, d] of the n known videos."""

    def __init__(self, known: Catalogue, features: NDArray[np.float32], layout: FeatureLayout) -> None:
        self._known, self._features, self._names = known, features, list(layout.names)
        self._usual = self._unseen(spec_defaults(VIDEO_VIEW, layout))
        self._newest_of = np.full(len(known.creators) + 1, -1, np.int64)
        self._newest_of[known.creator] = np.arange(len(known))  # of several the last, which is the newest
        self._newest_of[-1] = -1
        self._code = {name: code for code, name in enumerate(known.creators)}

    def of(self, videos: Catalogue, now: int) -> NDArray[np.float32]:
        """float32[m, d] at ``now`` (µs)."""
        out = np.tile(self._usual, (len(videos), 1))
        names = videos.table["creator_id"].to_pylist()
        newest = self._newest_of[[self._code.get(name or "", -1) for name in names]]
        theirs = [
            at
            for at, name in enumerate(self._names)
            if name.startswith(OF_CREATOR) and not name.startswith(HASH)
        ]
        some = newest >= 0
        out[np.ix_(some, np.asarray(theirs))] = self._features[newest[some]][:, theirs]
        uploaded = videos.uploaded_at
        age_h = np.where(uploaded > 0, np.log1p(np.maximum(now - uploaded, 0) / HOUR_US), -1)
        self._put(out, "age_h", age_h)
        self._put(out, "duration_s", np.where(videos.duration_s > 0, np.log1p(videos.duration_s), -1))
        for name, values in VideoVectors.of(videos.table).vectors.items():
            for place in range(values.shape[1]):
                self._put(out, f"{name}_{place}", values[:, place])
        return out

    def _unseen(self, defaults: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[d], of the newest video that nobody was shown; declared defaults where there is none."""
        places = [self._names.index(name) for name in UNSEEN if name in self._names]
        newest = self._features[-NEWEST:]
        rows = np.flatnonzero((newest[:, places] == 0).all(axis=1) & (len(places) == len(UNSEEN)))
        out = defaults.copy() if not len(rows) else newest[rows[-1]].copy()
        creators = [at for at, name in enumerate(self._names) if name.startswith(OF_CREATOR)]
        out[creators] = defaults[creators]
        return out

    def _put(self, out: NDArray[np.float32], name: str, values: NDArray[np.floating]) -> None:
        if name in self._names:
            out[:, self._names.index(name)] = values
