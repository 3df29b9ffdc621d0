"""What the gate refuses, and what it lets pass."""

import numpy as np

from components.gate import refusals
from models.bootstrap import compare


def test_a_candidate_is_refused_only_when_it_is_clearly_worse() -> None:
    rng = np.random.default_rng(0)
    baseline = rng.uniform(0, 1, 500)
    worse, noisy, better = baseline - 0.1, baseline + rng.normal(0, 1, 500), baseline + 0.1
    comparisons = {
        name: compare(values, baseline)
        for name, values in {"worse": worse, "noisy": noisy, "better": better}.items()
    }
    reasons = refusals(comparisons)
    assert len(reasons) == 1
    assert reasons[0].startswith("worse: ")
    assert "difference between -0.1 and -0.1" in reasons[0]
