"""Pools and convolutions against loops in NumPy and PyTorch's size formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.models import layers
from rtj.models.average_pool import average_pool_ceil, average_pool_same

WIDTHS = [1, 2, 3, 7, 15]


def _maps(height, width):
    return np.random.default_rng(height * 100 + width).normal(
        size=(2, height, width, 3)
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("height", WIDTHS)
def test_ceil_pool_averages_the_pixels_that_exist(height, width):
    x = _maps(height, width)
    rows, columns = -(-height // 2), -(-width // 2)
    wanted = np.stack(
        [
            np.stack(
                [
                    x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(axis=(1, 2))
                    for j in range(columns)
                ],
                axis=1,
            )
            for i in range(rows)
        ],
        axis=1,
    )
    found = average_pool_ceil(jnp.asarray(x), 2)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("size", WIDTHS)
def test_ceil_pool_keeps_the_size_of_a_strided_convolution(size):
    x = jnp.asarray(_maps(size, size))
    conv = layers.conv(
        3,
        1,
        stride=2,
        dtype=jnp.float32,
        kernel_init=jax.nn.initializers.ones,
        name="conv",
    )
    strided = conv.init_with_output(jax.random.key(0), x)[0]
    assert average_pool_ceil(x, 2).shape == strided.shape


def test_ceil_pool_of_window_1_is_nothing():
    x = jnp.asarray(_maps(3, 3))
    assert average_pool_ceil(x, 1) is x


@pytest.mark.parametrize("size", WIDTHS)
def test_same_pool_counts_zeros_right_and_below(size):
    x = _maps(size, size)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    wanted = (
        padded[:, :-1, :-1]
        + padded[:, 1:, :-1]
        + padded[:, :-1, 1:]
        + padded[:, 1:, 1:]
    ) / 4
    found = average_pool_same(jnp.asarray(x))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("size", [33, 75, 97, 225, 240])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [(1, 2, 1), (3, 1, 1), (3, 2, 1), (7, 2, 1), (3, 1, 2), (3, 1, 4)],
)
def test_convolution_has_pytorchs_size(size, kernel, stride, dilation):
    conv = layers.conv(
        2,
        kernel,
        stride=stride,
        dilation=dilation,
        dtype=jnp.float32,
        kernel_init=jax.nn.initializers.ones,
        name="conv",
    )
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    out, _ = jax.eval_shape(conv.init_with_output, jax.random.key(0), image)
    pad = dilation * (kernel // 2)
    wanted = (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
    assert out.shape == (1, wanted, wanted, 2)


def test_symmetric_padding_at_stride_2_is_not_same():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)

    def corner(padding):
        conv = layers.conv(
            1,
            3,
            stride=2,
            padding=padding,
            dtype=jnp.float32,
            kernel_init=jax.nn.initializers.ones,
            name="conv",
        )
        return float(conv.init_with_output(jax.random.key(0), x)[0][0, 0, 0, 0])

    assert corner("symmetric") == 0 + 1 + 4 + 5
    assert corner("same") == 0 + 1 + 2 + 4 + 5 + 6 + 8 + 9 + 10
