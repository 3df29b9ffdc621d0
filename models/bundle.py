"""A release bundle: everything that must match to serve, in one folder with checksums.

manifest.json         as_of, made_at, layouts, data versions, and SHA-256 and size of every file
catalogue.parquet     rows that all other parts count by
popularity.npz        decayed counts: the baseline and the last fallback
als/  towers/         retrieval models with their item vectors
neighbours/           what each video says for others
index/                optional: a faster index over the towers' item vectors
als_index/            optional: the same over ALS's factors
exposure.npz          optional: how often each video was shown, and how often that went well
ranker/               the scoring network
video_features.npy    float32[n, dv] in row order, as of the release
weights.json          optional: how the heads make one score
blend.json            optional: how that score and the retrievers make one order
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from models.als import AlsModel
from models.blend import Blend
from models.catalogue import Catalogue
from models.crosses import Crosses
from models.exposure import Exposure
from models.index import ExactIndex, Index, load_index
from models.layout import FeatureLayout
from models.neighbours import Neighbours
from models.popularity import Popularity
from models.scorer import Scorer
from models.specs import components
from models.towers import Towers
from models.utility import Weights
from upnext.errors import ReleaseCorrupt, ReleaseError

MANIFEST = "manifest.json"
FORMAT = 1
REQUIRED = (
    "catalogue.parquet",
    "popularity.npz",
    "als",
    "towers",
    "neighbours",
    "ranker",
    "video_features.npy",
)
INDICES = ("index", "als_index")
OPTIONAL = (*INDICES, "weights.json", "blend.json", "exposure.npz")


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself. Times are UTC."""

    as_of: datetime
    """End of the data that it knows."""
    made_at: datetime
    digest: str
    """SHA-256 over the files' sums: two bundles with one digest are the same."""
    files: Mapping[str, str]
    """Path below the folder -> SHA-256 in hexadecimal."""
    layouts: Mapping[str, FeatureLayout]
    """Feature view -> how its packed values lie."""
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest of a bundle; ReleaseCorrupt when it is not there or not readable."""
        path = folder / MANIFEST
        try:
            raw = json.loads(path.read_text())
            if raw["format"] != FORMAT:
                raise ReleaseError(
                    f"{path} has format {raw['format']}, this version reads {FORMAT}: release again"
                )
            layouts = {
                view: FeatureLayout.from_json(json.dumps(layout)) for view, layout in raw["layouts"].items()
            }
            as_of, made_at = (datetime.fromisoformat(raw[name]) for name in ("as_of", "made_at"))
            return cls(as_of, made_at, raw["digest"], raw["files"], layouts, raw["meta"])
        except FileNotFoundError as error:
            raise ReleaseCorrupt(
                f"{folder} has no {MANIFEST}: it is no bundle, or it is cut short"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReleaseCorrupt(f"{path} is not a manifest: {error!r}; release again") from error

    @property
    def learned_until(self) -> datetime:
        """Before when all of what its models learned from happened; ``as_of``, which is later, if not told.

        Popularity and features are bound as of a time, and tell nothing of that."""
        told = self.meta.get("learned_until")
        return datetime.fromisoformat(told) if told else self.as_of


@dataclass(frozen=True)
class Bundle:
    """One release in memory. All rows are the catalogue's."""

    folder: Path
    manifest: Manifest
    catalogue: Catalogue
    popularity: Popularity
    als: AlsModel
    towers: Towers
    neighbours: Neighbours
    scorer: Scorer
    video_features: NDArray[np.float32]
    """float32[n, dv], nan where unknown."""
    weights: Weights
    blend: Blend
    exposure: Exposure
    index: Index | None = None
    als_indexed: Index | None = None

    @classmethod
    def load(cls, folder: Path, verify: bool = True) -> Self:
        """Read a bundle.

        Raises
        ------
        ReleaseCorrupt
            A file is missing, or with ``verify`` its checksum differs.
        ReleaseError
            Parts are of different catalogues, or LayoutMismatch: of different feature layouts.
        """
        manifest = Manifest.read(folder)
        check(folder, manifest, sums=verify)
        weights, index, exposure = (folder / name for name in ("weights.json", "index", "exposure.npz"))
        als_index, blend = folder / "als_index", folder / "blend.json"
        catalogue = Catalogue.load(folder / "catalogue.parquet")
        bundle = cls(
            folder=folder,
            manifest=manifest,
            catalogue=catalogue,
            popularity=Popularity.load(folder / "popularity.npz"),
            als=AlsModel.load(folder / "als"),
            towers=Towers.load(folder / "towers"),
            neighbours=Neighbours.load(folder / "neighbours"),
            scorer=Scorer.load(folder / "ranker"),
            video_features=np.load(folder / "video_features.npy", mmap_mode="r"),
            weights=Weights.load(weights) if weights.exists() else Weights(),
            blend=Blend.load(blend) if blend.exists() else Blend(),
            exposure=Exposure.load(exposure) if exposure.exists() else Exposure.none(len(catalogue)),
            index=load_index(index) if index.exists() else None,
            als_indexed=load_index(als_index) if als_index.exists() else None,
        )
        bundle._require_one_catalogue()
        bundle._require_one_layout()
        return bundle

    @property
    def version(self) -> str:
        """Short name of what is inside, for people and logs."""
        return self.manifest.digest[:12]

    @cached_property
    def als_index(self) -> Index:
        """The bundled index over ALS's factors, exact search where there is none."""
        return self.als_indexed or ExactIndex.build(self.als.factors)

    @cached_property
    def tower_index(self) -> Index:
        """The bundled index over the towers' item vectors, exact search where there is none."""
        return self.index or ExactIndex.build(self.towers.items)

    @cached_property
    def crosses(self) -> Crosses:
        looks = components(self.manifest.layouts["video_features"].names, "visual")
        # A mapping of its own, so that its pages go when the columns are copied.
        visual = np.load(self.folder / "video_features.npy", mmap_mode="r")[:, looks]
        return Crosses(
            self.catalogue,
            self.als.factors,
            self.towers.items,
            self.popularity,
            self.neighbours,
            visual if visual.any() else None,
        )

    def _require_one_layout(self) -> None:
        """The layouts that the manifest names must be those that the ranker was trained on."""
        schema = self.scorer.schema
        for view, trained in (("user_features", schema.user_layout), ("video_features", schema.video_layout)):
            if trained:
                self.manifest.layouts[view].require(trained, f"the ranker in {self.folder}, view {view},")

    def _require_one_catalogue(self) -> None:
        videos = len(self.catalogue)
        rows = {
            "popularity": self.popularity.counts.shape[1],
            "als": len(self.als.factors),
            "towers": len(self.towers.items),
            "neighbours": len(self.neighbours.rows),
            "exposure": len(self.exposure.impressions),
            "video_features": len(self.video_features),
            "index": videos if self.index is None else len(self.index),
            "als_index": videos if self.als_indexed is None else len(self.als_indexed),
        }
        for part, found in rows.items():
            if found != videos:
                raise ReleaseError(
                    f"{part} has {found} rows for a catalogue of {videos} videos in {self.folder}: "
                    "its parts come from different runs; release again"
                )


def assemble(parts: Mapping[str, Path], out: Path, meta: Mapping[str, Any]) -> Path:
    """Put parts together as the bundle ``out``, which appears whole or not at all.

    Parameters
    ----------
    parts
        Name within the bundle, of REQUIRED and OPTIONAL, -> the file or folder to copy.
    meta
        ``as_of`` (ISO 8601) and ``layouts`` (view -> FeatureLayout as JSON) are required; the rest is kept.

    Raises
    ------
    ReleaseError
        A required part is missing, or one is unknown.
    """
    absent = [name for name in REQUIRED if name not in parts]
    unknown = [name for name in parts if name not in REQUIRED + OPTIONAL]
    if absent or unknown:
        raise ReleaseError(f"a bundle lacks {absent or 'nothing'} and does not know {unknown or 'nothing'}")
    lacking = [name for name in ("as_of", "layouts") if name not in meta]
    if lacking:
        raise ReleaseError(
            f"meta lacks {', '.join(lacking)}: say which time and feature layouts the models have"
        )
    new = out.with_name(f".{out.name}.{uuid4().hex[:8]}")
    new.mkdir(parents=True)
    try:
        for name, source in parts.items():
            copy = shutil.copytree if source.is_dir() else shutil.copyfile
            copy(source, new / name)
        files = {str(path.relative_to(new)): _sum(path) for path in _files(new)}
        rest = {key: value for key, value in meta.items() if key not in ("as_of", "layouts")}
        manifest = {
            "format": FORMAT,
            "as_of": meta["as_of"],
            "made_at": datetime.now(UTC).isoformat(),
            "digest": sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(),
            "layouts": meta["layouts"],
            "meta": rest,
            "files": files,
        }
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1))
        if out.exists():
            shutil.rmtree(out)
        new.replace(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return out


def check(folder: Path, manifest: Manifest, sums: bool = True) -> None:
    """Raise ReleaseCorrupt unless every file is there and, with ``sums``, is what the manifest says."""
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ReleaseCorrupt(f"{path} is missing: fetch the release again")
        if sums and (found := _sum(path)) != expected:
            raise ReleaseCorrupt(
                f"{path} has the SHA-256 {found[:16]}…, the manifest says {expected[:16]}…: "
                "fetch the release again"
            )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
