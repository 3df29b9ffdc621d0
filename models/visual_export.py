"""Visual networks as ONNX files: ours after training, or one that somebody brings."""

import pickle
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.onnx_export import write_onnx
from models.onnx_session import session
from models.video_inputs import VISUAL
from models.visual import SIDE, Pictures, VisualConfig, VisualNet, as_input
from upnext.errors import ConfigError, CorruptData, MissingData

NETWORK, STATE = "visual.onnx", "visual.pt"
OPSET = 17
CHUNK = 256
"""Pictures that are run at once."""
TOLERANCE = 1e-4
"""How far ONNX and torch may differ in any place of a vector."""
_SEED = 20_150_310
"""Of the projection that brings foreign vectors to our width: the same one everywhere, forever."""


@dataclass(frozen=True)
class PictureEncoder:
    """A network in onnxruntime, input float32[n, 3, 64, 64] in [0, 1].

    What it gives is flattened and, where it is not of our width, projected by a fixed random matrix, which
    keeps angles about as they are (Johnson and Lindenstrauss, 1984); then brought to length 1.
    """

    name: str
    """Digest of the file: vectors of two networks of different names can't be compared."""
    session: Any

    @classmethod
    def load(cls, file: Path, threads: int = 1) -> "PictureEncoder":
        """MissingData without a file, ConfigError where it takes no such pictures, else CorruptData."""
        if not file.is_file():
            raise MissingData(f"no visual network at {file}")
        loaded = session(file, "train the visual network again, or bring another", threads)
        with file.open("rb") as content:
            encoder = cls(file_digest(content, "sha256").hexdigest()[:16], loaded)
        try:
            encoder.encode(np.zeros((1, SIDE, SIDE, 3), np.uint8))
        except Exception as error:
            wanted = f"one input float32[n, 3, {SIDE}, {SIDE}], one row of numbers for each picture"
            raise ConfigError(f"{file} is no network of pictures ({error}): it must have {wanted}") from error
        return encoder

    def encode(self, pictures: Pictures) -> NDArray[np.float32]:
        """float32[n, VISUAL], each of length 1."""
        vectors = np.zeros((len(pictures), VISUAL), np.float32)
        name = self.session.get_inputs()[0].name
        for at in range(0, len(pictures), CHUNK):
            some = pictures[at : at + CHUNK]
            found = np.asarray(self.session.run(None, {name: as_input(some).numpy()})[0], np.float32)
            vectors[at : at + CHUNK] = _projected(found.reshape(len(some), -1))
        return vectors


def export(net: VisualNet, folder: Path, sample: Pictures) -> PictureEncoder:
    """Write network and weights below a folder; CorruptData where ONNX and torch disagree on the sample."""
    folder.mkdir(parents=True, exist_ok=True)
    example = as_input(sample)
    varying = {"pictures": {0: "n"}, "vectors": {0: "n"}}
    write_onnx(net, {"pictures": example}, ["vectors"], varying, folder / NETWORK, OPSET)
    torch.save(net.state_dict(), folder / STATE)
    encoder = PictureEncoder.load(folder / NETWORK)
    with torch.no_grad():
        gap = float(np.abs(net(example).numpy() - encoder.encode(sample)).max())
    if not gap <= TOLERANCE:
        raise CorruptData(f"the exported visual network differs from the trained one by {gap:.2g}")
    return encoder


def resume(folder: Path, config: VisualConfig) -> VisualNet:
    """The network that :func:`export` wrote, to go on from; MissingData or CorruptData if it is none."""
    file = folder / STATE
    if not file.is_file():
        raise MissingData(f"no visual network to start from in {folder}")
    net = VisualNet(config.channels)
    try:
        net.load_state_dict(torch.load(file, weights_only=True))
    except (OSError, EOFError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise CorruptData(f"{file} is no start for {config}: {error}") from error
    return net


def _projected(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if vectors.shape[1] != VISUAL:
        rng = np.random.default_rng(_SEED)
        vectors = vectors @ rng.standard_normal((vectors.shape[1], VISUAL)).astype(np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)
