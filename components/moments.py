"""The event log around some moments: what real-time features and searches said as of each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa
import pyarrow.dataset as ds

from feature_repo.searches import Searches
from feature_repo.specs import USER_STREAM, VIDEO_STREAM
from feature_repo.stream import LONGEST
from feature_repo.stream_log import StreamLog
from models.catalogue import Catalogue
from models.columns import codes
from upnext.ports import Lake
from upnext.times import moment


@dataclass(frozen=True)
class Moments:
    """Streams by catalogue row and by viewer, and viewers' searches."""

    videos: StreamLog
    users: StreamLog
    searches: Searches

    @classmethod
    def of(cls, lake: Lake, catalogue: Catalogue, users: Sequence[str], first: int, end: int) -> "Moments":
        """For moments in [first, end), µs since the epoch; viewers by their places in ``users``."""
        time = ds.field("timestamp")
        since = moment(first) - timedelta(minutes=LONGEST)
        columns = ["user_id", "video_id", "event_type", "timestamp", "watch_duration_ms"]
        events = lake.scan("events").to_table(columns=columns, filter=(time >= since) & (time < moment(end)))
        ids = pa.array(users, pa.string())
        return cls(
            StreamLog.of(VIDEO_STREAM, events, catalogue.rows(events["video_id"])),
            StreamLog.of(USER_STREAM, events, codes(events["user_id"], ids)),
            searches(lake, ids),
        )


def searches(lake: Lake, users: pa.Array) -> Searches:
    """What the viewers listed searched for, as far as the lake tells."""
    wanted = ds.field("event_type") == "search"
    columns = ["user_id", "timestamp", "query"]
    return Searches.of(lake.scan("events").to_table(columns=columns, filter=wanted), users)
