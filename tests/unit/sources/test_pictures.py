"""Thumbnails from files: what is a picture is read, what is none is refused and stops nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upnext.contracts import QUARANTINE
from upnext.sources import open_source
from upnext.sources.base import Pictured


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside.png").touch()
    folder = tmp_path / "platform"
    folder.mkdir()
    (folder / "pictures").mkdir()
    Image.new("RGB", (200, 100), (250, 10, 10)).save(folder / "pictures" / "red.png")
    Image.new("L", (64, 64), 128).save(folder / "pictures" / "grey one.jpg")
    (folder / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    whole = (folder / "pictures" / "red.png").read_bytes()
    (folder / "pictures" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "pictures" / "huge.png").write_bytes(b"0" * 5_000_001)
    (folder / "pictures" / "loop.png").symlink_to("loop.png")
    urls = {
        "red": "pictures/red.png",
        "grey": (folder / "pictures" / "grey one.jpg").as_uri(),
        "broken": "pictures/broken.png",
        "cut": "pictures/cut.png",
        "huge": "pictures/huge.png",
        "gone": "pictures/gone.png",
        "outside": "../outside.png",
        "loop": "pictures/loop.png",
        "no url": "http://[broken",
        "remote": "https://example.org/1.jpg",
        "none": None,
    }
    videos = [{"video_id": video, "thumbnail_url": url} for video, url in urls.items()]
    (folder / "videos.jsonl").write_text("\n".join(json.dumps(video) for video in videos))
    event = {"user_id": "u", "event_type": "click", "video_id": "red", "timestamp": "2026-01-01"}
    (folder / "events.jsonl").write_text(json.dumps(event))
    return folder


def test_pictures_are_read_and_the_rest_is_refused_with_its_reason(folder: Path) -> None:
    source = open_source(f"files:{folder}")
    assert isinstance(source, Pictured)
    good = ["grey", "unheard of", "red"]
    ids = [*good, "broken", "cut", "huge", "gone", "outside", "loop", "no url", "remote", "none"]
    found = source.thumbnails(ids)
    assert (found.pixels.shape, found.pixels.dtype) == ((12, 64, 64, 3), np.uint8)
    assert found.there.tolist() == [True, False, True, *[False] * 9]
    assert (found.pixels[2] == (250, 10, 10)).all()
    assert np.abs(found.pixels[0].astype(int) - 128).max() <= 2
    assert not found.pixels[~found.there].any()
    assert found.refused.schema.equals(QUARANTINE)
    reasons = {
        json.loads(row["row"])["video_id"]: row["reason"].removeprefix("thumbnail_url ")
        for row in found.refused.to_pylist()
    }
    assert reasons == {
        "broken": "can't be read as a picture",
        "cut": "can't be read as a picture",
        "huge": "is of more than 5000000 bytes",
        "gone": "names no file",
        "outside": "is outside the source's folder",
        "loop": "can't be read as a picture",
        "no url": "can't be read as a picture",
    }


def test_too_many_pixels_are_not_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upnext.sources.pictures.MOST_PIXELS", 19_999)
    found = open_source(f"files:{folder}").thumbnails(["red"])  # type: ignore[attr-defined]
    assert found.refused["reason"].to_pylist() == ["thumbnail_url is of more than 19999 pixels"]


def test_every_video_of_the_world_has_one() -> None:
    source = open_source("world:users=20,videos=30,days=2")
    assert isinstance(source, Pictured)
    ids = next(source.videos())["video_id"].to_pylist()
    found = source.thumbnails(["v99999999", ids[3], "stranger", ids[0]])
    assert found.there.tolist() == [False, True, False, True]
    assert not len(found.refused)
    np.testing.assert_array_equal(found.pixels[[3, 1]], source.world.thumbnails(np.array([0, 3])))  # type: ignore[attr-defined]


def test_logs_without_pictures_are_not_pictured() -> None:
    from upnext.sources.kuairand import KuaiRandSource

    assert not issubclass(KuaiRandSource, Pictured)
