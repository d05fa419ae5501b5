"""Averages' gradients in closed form, and what their programs hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rtj.models.average_pool import average_of_map, average_pool_ceil
from tests.models.lowered import operations


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("shape", [(2, 4, 7, 3), (5, 6, 2), (2, 2, 3, 5, 1)])
def test_each_cell_gets_its_share_of_its_windows_gradient(shape, window):
    y, pull = jax.vjp(lambda x: average_pool_ceil(x, window), jnp.ones(shape))
    np.testing.assert_allclose(y, 1)
    gradient = np.random.default_rng(0).normal(size=y.shape).astype(np.float32)
    height, width = shape[-3:-1]
    rows, columns = np.arange(height) // window, np.arange(width) // window
    cells = np.bincount(rows)[rows][:, None] * np.bincount(columns)[columns]
    wanted = gradient[..., rows, :, :][..., columns, :] / cells[:, :, None]
    np.testing.assert_allclose(pull(gradient)[0], wanted, atol=1e-6)


def test_the_average_of_a_map_and_its_gradient():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    y, pull = jax.vjp(average_of_map, jnp.asarray(x))
    np.testing.assert_allclose(y, x.sum((1, 2)) / 12, atol=1e-6)
    gradient = np.arange(10, dtype=np.float32).reshape(2, 5)
    wanted = np.broadcast_to(gradient[:, None, None] / 12, x.shape)
    np.testing.assert_allclose(pull(gradient)[0], wanted, atol=1e-6)


def _plain_pool(x):
    pads = ((0, 0), (0, 1))
    return nn.avg_pool(x, (2, 2), (2, 2), pads, count_include_pad=False)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (lambda x: average_pool_ceil(x, 2), _plain_pool),
        (average_of_map, lambda x: x.mean((1, 2))),
    ],
)
def test_programs_for_accelerators_hold_what_lax_has(ours, plain, platform):
    found, wanted = _program(ours, platform), _program(plain, platform)
    # A mean's gradient is divided by a constant, which each branch broadcasts itself.
    assert abs(found.pop("broadcast_in_dim") - wanted.pop("broadcast_in_dim")) <= 1
    assert found == wanted


def test_a_pool_in_16_bits_is_that_of_flax_on_every_platform():
    x = jnp.ones((2, 4, 5, 3), jnp.bfloat16)
    found, wanted = average_pool_ceil(x, 2), _plain_pool(x)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_programs_for_a_cpu_have_no_sums_over_windows():
    assert "reduce_window" not in _program(lambda x: average_pool_ceil(x, 2), "cpu")
    assert _program(average_of_map, "cpu")["dot_general"] == 2


def _program(pool, platform):
    return operations(
        jax.value_and_grad(lambda x: (pool(x) ** 2).sum()),
        jnp.ones((2, 4, 5, 3)),
        platform=platform,
    )
