"""The max pool's gradient against loops in NumPy, and what its programs hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rtj.models.max_pool import max_pool
from tests.models.lowered import operations

# (height, width), size, stride, pads
CASES = [
    ((8, 6), 3, 2, ((1, 1), (1, 1))),
    ((7, 9), 3, 2, ((1, 1), (1, 1))),
    ((9, 8), 3, 2, ((0, 0), (0, 0))),
    ((6, 7), 2, 2, ((0, 0), (0, 0))),
    ((5, 6), 3, 1, ((1, 1), (1, 1))),
    ((7, 8), 2, 3, ((0, 1), (1, 0))),
]


def _loops(x, gradient, size, stride, pads):
    """The pool, and its gradient to the first of the largest cells of each window."""
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-np.inf)
    y, of_padded = np.zeros_like(gradient), np.zeros_like(padded)
    for n, i, j, c in np.ndindex(*gradient.shape):
        top, left = i * stride, j * stride
        window = padded[n, top : top + size, left : left + size, c]
        row, column = divmod(int(window.argmax()), size)
        y[n, i, j, c] = window[row, column]
        of_padded[n, top + row, left + column, c] += gradient[n, i, j, c]
    (above, _), (before, _) = pads
    rows, columns = x.shape[1:3]
    return y, of_padded[:, above : above + rows, before : before + columns]


@pytest.mark.parametrize(("cells", "size", "stride", "pads"), CASES)
def test_value_and_gradient_are_those_of_loops(cells, size, stride, pads):
    rng = np.random.default_rng(0)
    # Few values, so that most windows have several largest cells.
    x = rng.integers(0, 3, (2, *cells, 2)).astype(np.float32)
    shape = [
        (length + sum(pad) - size) // stride + 1
        for length, pad in zip(cells, pads, strict=True)
    ]
    gradient = rng.normal(size=(2, *shape, 2)).astype(np.float32)
    y, pull = jax.vjp(lambda x: max_pool(x, size, stride, pads), jnp.asarray(x))
    wanted, wanted_gradient = _loops(x, gradient, size, stride, pads)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_allclose(pull(gradient)[0], wanted_gradient, atol=1e-6)


def _program(pool, platform):
    x, gradient = jnp.ones((2, 8, 8, 3)), jnp.ones((2, 4, 4, 3))

    def both(x, gradient):
        y, pull = jax.vjp(pool, x)
        return y, *pull(gradient)

    return operations(both, x, gradient, platform=platform)


def _ours(x):
    return max_pool(x, 3, 2, ((1, 1), (1, 1)))


def _flax(x):
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_programs_for_accelerators_hold_one_select_and_scatter(platform):
    plain = _program(_flax, platform)
    assert plain["select_and_scatter"] == 1
    assert _program(_ours, platform) == plain


def test_programs_for_a_cpu_neither_select_nor_scatter():
    found = _program(_ours, "cpu")
    assert not {"select_and_scatter", "scatter"} & set(found)
