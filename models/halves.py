"""float16 to float32 by the processor's instruction for it, which onnxruntime uses and numpy does not."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_CAST = (
    b"\x08\x08:J\n!\n\x06halves\x12\x06floats\x22\x04Cast*\t\n\x02to\x18\x01\xa0\x01\x02\x12\x05widen"
    b"Z\x0e\n\x06halves\x12\x04\n\x02\x08\nb\x0e\n\x06floats\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""The ONNX model ``floats = Cast<to = float>(halves)``; serving has no package to make it with."""


def widen(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """The same values as float32, in the same shape, of at least one dimension; exact, but for nan's sign."""
    floats: NDArray[np.float32]
    (floats,) = _session().run(None, {"halves": np.ascontiguousarray(halves)})
    return floats


@cache
def _session() -> InferenceSession:
    from onnxruntime import InferenceSession, SessionOptions  # most steps know layouts and widen nothing

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # or what the largest matrix took would never be given back
    return InferenceSession(_CAST, options, providers=["CPUExecutionProvider"])
