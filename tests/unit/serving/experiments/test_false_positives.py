"""Over many splits of one simulated log nothing is found where nothing is, and what is there is found."""

import pytest
from scipy.stats import binom

from benchmarks.experiments import Log, rates
from models.experiment_stats import ALPHA

RUNS = 200


@pytest.fixture(scope="module")
def log():
    return Log.of("users=400,videos=300,days=11,seed=7", before=6)


def test_splits_of_viewers_who_are_served_alike(log):
    found = rates(log, RUNS)
    low, high = (bound / RUNS for bound in binom.interval(0.999, RUNS, ALPHA))
    assert low <= found.fixed <= high and low <= found.ctr <= high
    assert found.always <= ALPHA < found.peeked


def test_watch_time_that_is_truly_doubled(log):
    found = rates(log, 20, raised=1.0, first=RUNS)
    assert found.always >= 0.9
    assert found.narrowed > 0.1
