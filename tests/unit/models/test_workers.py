"""What training sets of torch is as before afterwards."""

import pytest
import torch

from models.workers import torch_state


def test_seed_and_threads_are_as_before() -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    drawn = []
    for _ in range(2):
        with torch_state(seed=3, threads=threads + 1):
            assert torch.get_num_threads() == threads + 1
            drawn.append(float(torch.rand(1)))
    with pytest.raises(KeyError), torch_state(seed=3, threads=threads + 1):
        {}["training failed"]
    assert drawn[0] == drawn[1]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
