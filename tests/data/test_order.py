"""The training order: a pure function of seed and position."""

import numpy as np
import pytest

from rtj.data import order


@pytest.mark.parametrize("n", [1, 2, 5, 37, 1000])
def test_every_example_comes_once_an_epoch(n):
    stream = order.stream_indices(3, n, 0, 4 * n)
    for epoch in stream.reshape(4, n):
        assert sorted(epoch.tolist()) == list(range(n))


def test_epochs_and_seeds_have_different_orders():
    orders = {
        tuple(order.stream_indices(seed, 100, epoch * 100, epoch * 100 + 100).tolist())
        for seed in range(4)
        for epoch in range(4)
    }
    # All 16 differ: seed 1 does not repeat seed 0 one epoch earlier.
    assert len(orders) == 16


def test_batches_of_any_size_cut_one_stream():
    whole = order.stream_indices(7, 37, 0, 240)
    for batch in (1, 8, 24, 60):
        parts = [order.example_ids(7, batch, 37, s) for s in range(240 // batch)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_batch_larger_than_the_data_set_holds_whole_epochs():
    counts = np.bincount(order.example_ids(0, 74, 37, 5))
    np.testing.assert_array_equal(counts, np.full(37, 2))


def test_shuffling_leaves_no_trace_of_the_original_order():
    n = 4000
    stream = order.stream_indices(0, n, 0, n).astype(float)
    # A random permutation's correlations have standard deviation 1/sqrt(n) = 0.016.
    assert abs(np.corrcoef(stream, np.arange(n))[0, 1]) < 0.064
    assert abs(np.corrcoef(stream[:-1], stream[1:])[0, 1]) < 0.064
