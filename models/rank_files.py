"""Rows of the ranker in a folder of .npy files, memory-mapped, so that several processes share one copy."""

import json
from pathlib import Path

import numpy as np

from models.files import reading
from models.history import Histories
from models.rank_data import BLOCKS, Pasts, RankData

COLUMNS = (*BLOCKS, "position", "shown")
ABOUT = "rows.json"


def save_rows(data: RankData, folder: Path) -> None:
    """Write a folder; what is there is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: getattr(data, name) for name in COLUMNS}
    arrays |= {f"label.{head}": label for head, label in data.labels.items()}
    if data.pasts is not None:
        arrays |= {f"pasts.{name}": getattr(data.pasts, name) for name in ("vectors", "viewer", "video")}
        arrays |= {f"history.{name}": value for name, value in vars(data.pasts.histories).items()}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    about = {"labels": list(data.labels), "pasts": data.pasts is not None}
    (folder / ABOUT).write_text(json.dumps(about))


def load_rows(folder: Path) -> RankData:
    """What :func:`save_rows` wrote; MissingData or CorruptData where it is not that."""

    def read(name: str) -> np.ndarray:
        array: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r")
        return array

    with reading("ranker's rows", folder, ABOUT, remedy="write them there with save_rows"):
        about = json.loads((folder / ABOUT).read_text())
        pasts = None
        if about["pasts"]:
            history = Histories(*(read(f"history.{name}") for name in ("rows", "strength", "age_s")))
            pasts = Pasts(read("pasts.vectors"), history, read("pasts.viewer"), read("pasts.video"))
        labels = {head: read(f"label.{head}") for head in about["labels"]}
        return RankData(**{name: read(name) for name in COLUMNS}, labels=labels, pasts=pasts)
