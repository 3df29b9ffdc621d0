"""A bundle loads whole or not at all."""

import json

import numpy as np
import pytest

from feature_repo.specs import USER
from models.bundle import REQUIRED, Bundle, Manifest, assemble, check
from models.index import ExactIndex
from models.layout import FeatureLayout
from tests.support.bundles import AS_OF, LAYOUTS, VIDEOS, tiny_bundle
from upnext.errors import LayoutMismatch, ReleaseCorrupt, ReleaseError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("bundle"), meta={"source": "tiny:"})


@pytest.fixture
def copy(made, tmp_path):
    """A bundle that a test may break."""
    import shutil

    return shutil.copytree(made.folder, tmp_path / "bundle")


def parts_of(made):
    return {name: made.folder / name for name in REQUIRED}


def meta_of(made):
    raw = json.loads((made.folder / "manifest.json").read_text())
    return {"as_of": raw["as_of"], "layouts": raw["layouts"]}


def test_everything_comes_back(made):
    assert len(made.catalogue) == VIDEOS == len(made.video_features) == len(made.als.factors)
    assert made.manifest.as_of == AS_OF
    assert made.manifest.meta == {"source": "tiny:"}
    assert made.manifest.layouts == LAYOUTS
    assert set(made.manifest.files) >= {"catalogue.parquet", "als/factors.npy", "ranker/ranker.onnx"}
    assert not made.exposure.impressions.any()


def test_parts_without_an_index_are_searched_exactly(made):
    rows, _ = made.tower_index.search(made.towers.items[:1], 1)
    assert rows.shape == (1, 1) and made.index is None


def test_the_same_parts_have_the_same_digest(made, tmp_path):
    again = assemble(parts_of(made), tmp_path / "again", meta_of(made))
    assert Manifest.read(again).digest == made.manifest.digest


def test_assembling_replaces_what_is_there(made, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    assemble(parts_of(made), out, meta_of(made))
    assert not (out / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["catalogue.parquet", "ranker/ranker.onnx", "als/factors.npy"])
def test_a_changed_or_missing_file_is_corrupt(copy, name):
    path = copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ReleaseCorrupt, match=path.name):
        Bundle.load(copy)
    path.unlink()
    with pytest.raises(ReleaseCorrupt, match="missing"):
        Bundle.load(copy)


def test_without_verifying_only_presence_is_checked(copy):
    with (copy / "ranker" / "ranker.json").open("a") as file:
        file.write("\n")
    check(copy, Manifest.read(copy), sums=False)
    with pytest.raises(ReleaseCorrupt):
        check(copy, Manifest.read(copy))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1, "layouts": 3}'])
def test_a_broken_manifest_is_corrupt(copy, text):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(ReleaseCorrupt):
        Bundle.load(copy)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    with pytest.raises(ReleaseCorrupt, match=r"manifest\.json"):
        Bundle.load(tmp_path)


def test_another_format_is_refused(copy):
    raw = json.loads((copy / "manifest.json").read_text()) | {"format": 99}
    (copy / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(ReleaseError, match="format 99"):
        Bundle.load(copy)


def test_parts_of_different_catalogues_are_refused(made, tmp_path):
    np.save(tmp_path / "video_features.npy", made.video_features[:-1])
    parts = parts_of(made) | {"video_features.npy": tmp_path / "video_features.npy"}
    mixed = assemble(parts, tmp_path / "mixed", meta_of(made))
    with pytest.raises(ReleaseError, match="119 rows for a catalogue of 120"):
        Bundle.load(mixed)


def test_als_is_searched_by_the_index_that_comes_with_it(made, tmp_path):
    """This one holds the factors upside down, as no search of the factors would."""
    ExactIndex.build(np.ascontiguousarray(made.als.factors[::-1])).save(tmp_path / "turned")
    parts = parts_of(made) | {"als_index": tmp_path / "turned"}
    loaded = Bundle.load(assemble(parts, tmp_path / "out", meta_of(made)))
    asked = made.als.factors[:1]
    exact, turned = made.als_index.search(asked, VIDEOS), loaded.als_index.search(asked, VIDEOS)
    assert np.array_equal(np.sort(VIDEOS - 1 - turned[0]), np.sort(exact[0]))
    assert turned[0][0, 0] == VIDEOS - 1 - exact[0][0, 0]
    assert np.array_equal(loaded.als.gramian, made.als.gramian)


def test_an_index_of_another_catalogue_is_refused(made, tmp_path):
    for lacking, out in ((0, "whole"), (1, "mixed")):
        ExactIndex.build(made.towers.items[: VIDEOS - lacking]).save(tmp_path / "index")
        assemble(parts_of(made) | {"index": tmp_path / "index"}, tmp_path / out, meta_of(made))
    assert len(Bundle.load(tmp_path / "whole").tower_index) == VIDEOS
    with pytest.raises(ReleaseError, match="index has 119 rows for a catalogue of 120"):
        Bundle.load(tmp_path / "mixed")


def test_missing_and_unknown_parts_and_meta_are_named(made, tmp_path):
    parts = parts_of(made)
    del parts["ranker"]
    with pytest.raises(ReleaseError, match="ranker"):
        assemble(parts, tmp_path / "out", meta_of(made))
    with pytest.raises(ReleaseError, match="extra"):
        assemble(parts_of(made) | {"extra": tmp_path}, tmp_path / "out", meta_of(made))
    with pytest.raises(ReleaseError, match="as_of"):
        assemble(parts_of(made), tmp_path / "out", {"layouts": {}})
    assert not (tmp_path / "out").exists()


def test_layouts_other_than_the_rankers_are_refused(made, tmp_path):
    meta = meta_of(made)
    meta["layouts"][USER.name] = json.loads(FeatureLayout.of(["height"]).to_json())
    with pytest.raises(LayoutMismatch, match=USER.name):
        Bundle.load(assemble(parts_of(made), tmp_path / "other", meta))
