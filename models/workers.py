"""The processes that train one model together: one alone, or those that torchrun started.

Each computes the gradient of its share of every batch; torch's DistributedDataParallel sums them, over gloo
between CPUs and over NCCL between GPUs. So the result is that of one process, up to the order of additions.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from upnext.errors import ConfigError


@dataclass(frozen=True)
class Workers:
    """This process among ``size`` of them."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of the rows int64[n] of a batch: neighbours stay together."""
        return rows.tensor_split(self.size)[self.rank]

    def total(self, values: Tensor) -> Tensor:
        """Sum over all processes of a tensor that has one shape everywhere."""
        if self.size > 1:
            from torch import distributed

            values = values.clone()
            distributed.all_reduce(values)
        return values

    def together(self, module: nn.Module) -> nn.Module:
        """The same module, whose gradients are the means over all processes."""
        if self.size == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module)


@contextmanager
def torch_state(seed: int, threads: int) -> Iterator[None]:
    """Seeded, on so many threads; both as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def torchrun_workers() -> Iterator[Workers]:
    """Join the processes that torchrun started; ConfigError where it did not."""
    absent = [name for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") if name not in os.environ]
    if absent:
        raise ConfigError(f"{', '.join(absent)} not set: start this with torchrun --nproc-per-node N -m …")
    from torch import distributed

    rank, size, place = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    gpu = torch.cuda.is_available() and place < torch.cuda.device_count()
    if gpu:
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if gpu else "gloo", rank=rank, world_size=size)
    try:
        yield Workers(rank, size, f"cuda:{place}" if gpu else "cpu")
    finally:
        distributed.destroy_process_group()
