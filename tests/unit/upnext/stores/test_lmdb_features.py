"""What is LMDB's own: the map's growth, several processes, files that are not its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from upnext.errors import CorruptData, StoreError
from upnext.stores.lmdb_features import Environment, LmdbFeatures

SMALL = 1 << 16


def test_a_full_map_grows_while_others_read(tmp_path: Path) -> None:
    features = LmdbFeatures(tmp_path, SMALL)
    ids = [f"v{number}" for number in range(2_000)]
    values = [os.urandom(400) for _ in ids]
    features.put("video", ids[:1], values[:1])
    features.put("video", ids, values)
    assert features.get("video", ids) == values
    features.close()


def test_a_map_that_another_process_has_grown_is_taken_over(tmp_path: Path) -> None:
    features = LmdbFeatures(tmp_path, SMALL)
    features.put("video", ["a"], [b"1"])
    script = f"""
from pathlib import Path
from upnext.stores.lmdb_features import LmdbFeatures
features = LmdbFeatures(Path({str(tmp_path)!r}), {SMALL})
features.put("video", [f"v{{n}}" for n in range(2000)], [b"x" * 400] * 2000)
features.close()
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert features.get("video", ["a", "v1999"]) == [b"1", b"x" * 400]
    features.put("video", ["b"], [b"2"])
    assert features.count("video") == 2_002
    features.close()


def test_the_environment_is_closed_with_its_last_user(tmp_path: Path) -> None:
    first, second = LmdbFeatures(tmp_path), LmdbFeatures(tmp_path)
    first.close()
    second.put("video", ["a"], [b"1"])
    second.close()
    assert not [path for _, path in Environment._open if path == tmp_path.resolve()]
    again = LmdbFeatures(tmp_path)
    assert again.get("video", ["a"]) == [b"1"]
    again.close()


def test_a_file_that_is_not_lmdbs(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"something else" * 1_000)
    with pytest.raises(CorruptData, match="no readable LMDB environment"):
        LmdbFeatures(tmp_path)


def test_more_views_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upnext.stores.lmdb_features._MAX_VIEWS", 2)
    features = LmdbFeatures(tmp_path)
    for view in ("one", "two"):
        features.put(view, ["a"], [b"1"])
    with pytest.raises(StoreError, match="already holds 2 views"):
        features.put("three", ["a"], [b"1"])
    features.close()


FILL = """
import resource, sys
from pathlib import Path
from upnext.errors import StoreError
from upnext.stores.lmdb_features import LmdbFeatures

store = LmdbFeatures(Path(sys.argv[1]))
store.put("view", ["a"], [b"1"])
limit = 1 << 20
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    store.put("view", [f"v{n}" for n in range(4_000)], [bytes(1_000)] * 4_000)
except StoreError as error:
    print(error)
print(store.get("view", ["a", "v0"]), store.count("view"))
store.put("view", ["b"], [b"2"])
"""
"""Writes more than a file may hold: what a full disk looks like to LMDB."""


def test_a_full_disk_is_told_and_nothing_is_half_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path / "online")], capture_output=True, text=True, check=True
    )
    error, held = done.stdout.strip().split("\n")
    assert str(tmp_path / "online") in error and "space left on the disk" in error
    assert held == "[b'1', None] 1"
    store = LmdbFeatures(tmp_path / "online")
    assert store.get("view", ["a", "b", "v0"]) == [b"1", b"2", None]
    store.close()
