"""Exposure against counting by hand."""

from datetime import timedelta

import pyarrow as pa
import pytest

from models.catalogue import Catalogue
from models.exposure import Exposure
from tests.support.small_log import START, outcome, outcomes, video
from upnext.contracts import VIDEOS
from upnext.errors import CorruptData, MissingData

CATALOGUE = Catalogue.of(pa.Table.from_pylist([video(place) for place in range(3)], VIDEOS))


def test_only_what_was_shown_before_counts(tmp_path):
    hour = timedelta(hours=1)
    log = outcomes(
        [
            outcome("a", "v0", START, watched=True, watch_fraction=0.6),
            outcome("b", "v0", START, watched=True, watch_fraction=0.5),
            outcome("c", "v1", START),
            outcome("d", "v1", START, shown=False, watched=True, watch_fraction=1.0),
            outcome("e", "v2", START + 2 * hour),
            outcome("f", "gone", START),
        ]
    )
    found = Exposure.of(log, CATALOGUE, int((START + hour).timestamp() * 1e6))
    assert dict(zip(CATALOGUE.ids, found.impressions.tolist(), strict=True)) == {"v0": 2, "v1": 1, "v2": 0}
    assert dict(zip(CATALOGUE.ids, found.successes.tolist(), strict=True)) == {"v0": 1, "v1": 0, "v2": 0}
    found.save(tmp_path / "exposure.npz")
    again = Exposure.load(tmp_path / "exposure.npz")
    assert again.impressions.tolist() == found.impressions.tolist()


def test_a_file_that_is_not_there_or_not_one(tmp_path):
    with pytest.raises(MissingData):
        Exposure.load(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(CorruptData, match=r"bad\.npz can't be read"):
        Exposure.load(tmp_path / "bad.npz")
    Exposure.none(9).save(tmp_path / "cut.npz")
    whole = (tmp_path / "cut.npz").read_bytes()
    for length in range(0, len(whole), 7):  # the zip's directory is at the end: none of these has it
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(CorruptData, match=r"cut\.npz can't be read"):
            Exposure.load(tmp_path / "cut.npz")
