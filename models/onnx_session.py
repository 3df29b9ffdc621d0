"""ONNX graphs as serving runs them, without torch."""

from pathlib import Path
from typing import Any

from upnext.errors import CorruptData


def session(path: Path, remedy: str, threads: int = 1) -> Any:
    """An onnxruntime session on the CPU; CorruptData, with what to do, where the file can't be loaded."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base but this
        raise CorruptData(f"{path} can't be loaded as ONNX: {error}; {remedy}") from error
