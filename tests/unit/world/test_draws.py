"""Random numbers by coordinates: even, independent, and the same in any order."""

import numpy as np

from upnext.world.beta import beta_quantile
from upnext.world.draws import Stream, choose, keys_at, mix, normals, uniform, uniforms


def test_splitmix64_reference_values():
    # Outputs 1 and 2 of SplitMix64 seeded with 0: the finaliser of one and two golden-ratio steps.
    steps = np.array([0x9E3779B97F4A7C15, (2 * 0x9E3779B97F4A7C15) % 2**64], dtype=np.uint64)
    assert [hex(value) for value in mix(steps).tolist()] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]


def test_any_subset_in_any_order_is_the_same():
    rows = np.arange(1000)
    everything = uniforms(keys_at(7, Stream.VIDEO, rows), 3, 4)
    some = np.array([999, 0, 421])
    assert np.array_equal(uniforms(keys_at(7, Stream.VIDEO, some), 3, 4), everything[some])
    assert np.array_equal(uniform(keys_at(7, Stream.VIDEO, some), 5), everything[some, 2])


def test_draws_are_even_and_unrelated():
    rows = np.arange(100_000)
    draws = uniforms(keys_at(7, Stream.VIDEO, rows), 0, 3)
    assert draws.min() > 0
    assert draws.max() < 1
    counts = np.histogram(draws, bins=100, range=(0, 1))[0]
    assert ((counts - 3000) ** 2 / 3000).sum() < 150  # chi square of 99 degrees: 1 in 1000 exceeds 148
    others = np.stack(
        [uniform(keys_at(8, Stream.VIDEO, rows), 0), uniform(keys_at(7, Stream.VIEWER, rows), 0)], axis=1
    )
    related = np.corrcoef(np.concatenate([draws, others, np.roll(draws, 1, axis=0)], axis=1).T)
    assert np.abs(related - np.eye(len(related))).max() < 0.02


def test_normals_and_choices():
    values = normals(keys_at(1, Stream.VIEWER, np.arange(50_000)), 0, 2)
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert abs((np.abs(values) > 1.96).mean() - 0.05) < 0.003
    assert choose(np.array([0.05, 0.26, 0.99]), [1, 2, 1]).tolist() == [0, 1, 2]


def test_beta_quantiles_have_the_right_moments_and_rise_with_mean_and_draw():
    draws = (np.arange(20_000) + 0.5) / 20_000
    for mean in (0.05, 0.3, 0.5, 0.9):
        values = beta_quantile(np.full_like(draws, mean), draws, 3.0)
        assert abs(values.mean() - mean) < 0.005
        assert abs(values.var() - mean * (1 - mean) / 4) < 0.005
        assert (np.diff(values) >= 0).all()
    means = np.linspace(0.03, 0.95, 200)
    assert (np.diff(beta_quantile(means, np.full(200, 0.4), 3.0)) > 0).all()
    # Beta(1, 1) is uniform, and so its own quantile.
    assert np.abs(beta_quantile(np.full_like(draws, 0.5), draws, 2.0) - draws).max() < 1e-3
