"""The order of training batches: a function of the step, every example once."""

import numpy as np
import pytest

from rtj.data import order
from rtj.transfer.detection.batch_order import WINDOW, batch_order
from tests.transfer.sources import Examples

N = 501


@pytest.fixture
def source():
    kinds = [(375, 500), (333, 500), (500, 375), (500, 333), (500, 500)]
    rng = np.random.default_rng(0)
    sizes = [kinds[k] for k in rng.choice(5, N, p=[0.55, 0.15, 0.15, 0.1, 0.05])]
    return Examples([{}] * N, sizes)


def make(source, batch_size=4, seed=3, short_side=600, max_side=1000):
    return batch_order(
        source,
        batch_size=batch_size,
        seed=seed,
        short_side=short_side,
        max_side=max_side,
    )


def test_every_position_of_the_stream_comes_once_and_in_its_window(source):
    planned = make(source)
    batches = [planned(step) for step in range(4 * WINDOW)]
    for window in range(4):
        part = batches[window * WINDOW : (window + 1) * WINDOW]
        start = window * WINDOW * 4
        positions = np.arange(start, start + WINDOW * 4)
        wanted = order.stream_indices(3, N, start, start + WINDOW * 4)
        found = np.concatenate([batch.indices for batch in part])
        epochs = np.concatenate([batch.epochs for batch in part])
        assert sorted(zip(epochs.tolist(), found.tolist(), strict=True)) == sorted(
            zip((positions // N).tolist(), wanted.tolist(), strict=True)
        )
    # So in an epoch every example comes once.
    indices = np.concatenate([batch.indices for batch in batches])
    epochs = np.concatenate([batch.epochs for batch in batches])
    assert sorted(indices[epochs == 0].tolist()) == list(range(N))


def test_a_step_does_not_depend_on_the_steps_before(source):
    straight, other = make(source), make(source)
    whole = [straight(step) for step in range(70)]
    for step in (69, 3, 40, 0):
        shape, indices, epochs = other(step)
        assert shape == whole[step].shape
        np.testing.assert_array_equal(indices, whole[step].indices)
        np.testing.assert_array_equal(epochs, whole[step].epochs)
    late = make(source)(10**9)
    assert len(late.indices) == 4
    # Within a window of where the stream is.
    assert abs(late.epochs[0] - 10**9 * 4 // N) <= 1


def test_a_step_reads_the_sizes_of_one_window(source):
    make(source)(1000)
    assert source.measured == WINDOW * 4


def test_most_batches_are_of_one_orientation(source):
    planned = make(source)
    batches = [planned(step) for step in range(4 * WINDOW)]
    shapes = [batch.shape for batch in batches]
    assert shapes.count((1024, 1024)) <= 4
    assert set(shapes) - {(1024, 1024)} == {
        (608, 800),
        (608, 1024),
        (800, 608),
        (1024, 608),
    }
    for shape, indices, _ in batches:
        sizes = {source.size(index) for index in indices.tolist()}
        if shape[0] < shape[1]:
            assert all(height <= width for height, width in sizes)


def test_the_seed_draws_another_order(source):
    first, other = make(source)(0), make(source, seed=4)(0)
    assert first.indices.tolist() != other.indices.tolist()


def test_a_data_set_smaller_than_a_window_or_a_batch_comes_once_an_epoch(source):
    few = Examples([{}] * 10, [source.size(k) for k in range(10)])
    for batch_size in (4, 16):
        planned = make(few, batch_size=batch_size)
        batches = [planned(step) for step in range(40)]
        indices = np.concatenate([batch.indices for batch in batches])
        epochs = np.concatenate([batch.epochs for batch in batches])
        for epoch in range(40 * batch_size // 10 - 3):
            assert sorted(indices[epochs == epoch].tolist()) == list(range(10))


def test_an_image_without_a_size_shapes_no_batch():
    sizes = [(375, 500), (375, 500), None, (375, 500)]
    planned = make(Examples([{}] * 4, sizes))
    assert planned(0).shape == (608, 800)
    assert sorted(planned(0).indices.tolist()) == [0, 1, 2, 3]
