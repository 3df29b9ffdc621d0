"""Writing a network of torch as an ONNX graph."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn


def write_onnx(
    net: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    varying: Mapping[str, Mapping[int, str]],
    path: Path,
    opset: int,
) -> None:
    """Trace the network with some inputs, in its order.

    varying: by input or output, the axes whose length is not that of the example -> their name.
    """
    with warnings.catch_warnings():
        # The exporter that replaces this one takes seconds more for the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in varying.items()},
            opset_version=opset,
            dynamo=False,
        )
