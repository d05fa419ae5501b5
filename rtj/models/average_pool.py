"""Averages over windows and over the whole map, in another form for a CPU.

XLA:CPU hands a sum over windows to YNNPACK together with the convolution and the batch
norm before it, and such a fusion is slow: three of them, at ResNet-50-D's strided
shortcuts and at its end, took 0.36 of the time of inference. Sums of shifted maps and a
product with ones stay apart. Programs for TPU and GPU hold XLA's operations; the choice
follows the platform that a program is lowered for.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax


def average_pool_ceil(x: jax.Array, window: int) -> jax.Array:
    """Average over window x window at stride window, rounding the size up.

    Args:
        x: (..., H, W, C), any float dtype.

    Border cells average only the pixels that exist (MXNet's
    `pooling_convention='full', count_include_pad=False`, PyTorch's
    `ceil_mode=True, count_include_pad=False`), so odd maps keep the size that a
    strided convolution gives them.
    """
    if window == 1:
        return x
    shifts, windows = (partial(f, window=window) for f in (_by_shifts, _by_windows))
    if jax.eval_shape(windows, x).dtype != x.dtype:
        return windows(x)  # as of 16 bits, which become float32
    return lax.platform_dependent(x, cpu=shifts, default=windows)


def average_pool_same(x: jax.Array) -> jax.Array:
    """2x2 average at stride 1 that keeps the size; zeros stand right and below.

    The zeros count, so the last row and column are averages of 4 with 2 or 3
    zeros among them: timm's `AvgPool2dSame`.
    """
    more = x.ndim - 4  # Flax takes one batch axis, so others become windows of 1.
    sides, strides = (*(1,) * more, 2, 2), (1,) * (more + 2)
    pads = [*[(0, 0)] * more, (0, 1), (0, 1)]
    return nn.avg_pool(x, sides, strides, pads, count_include_pad=True)


def average_of_map(x: jax.Array) -> jax.Array:
    """(N, H, W, C) to its mean over H and W, (N, C), of the same dtype."""
    return lax.platform_dependent(x, cpu=_by_product, default=_by_sum)


def _by_windows(x: jax.Array, window: int) -> jax.Array:
    """Flax takes one batch axis, so others become windows of 1."""
    ones = (1,) * (x.ndim - 4)
    pads = [*[(0, 0) for _ in ones], *_pads(x, window)]
    sides = (*ones, window, window)
    return nn.avg_pool(x, sides, sides, pads, count_include_pad=False)


def _by_shifts(x: jax.Array, window: int) -> jax.Array:
    more = [(0, 0)] * (x.ndim - 3)
    whole = jnp.pad(x, [*more, *_pads(x, window), (0, 0)])
    shifts = [
        whole[..., i::window, j::window, :]
        for i in range(window)
        for j in range(window)
    ]
    rows, columns = (
        np.minimum(window, size - np.arange(0, size, window)) for size in x.shape[-3:-1]
    )
    counts = jnp.asarray(np.outer(rows, columns)[:, :, None], x.dtype)
    return sum(shifts[1:], shifts[0]) / counts


def _pads(x: jax.Array, window: int) -> list[tuple[int, int]]:
    return [(0, -size % window) for size in x.shape[-3:-1]]


def _by_sum(x: jax.Array) -> jax.Array:
    return x.mean(axis=(1, 2))


def _by_product(x: jax.Array) -> jax.Array:
    n, height, width, channels = x.shape
    cells = height * width
    share = jnp.full((cells,), 1 / cells, x.dtype)
    return lax.dot_general(
        share, x.reshape(n, cells, channels), (((0,), (1,)), ((), ()))
    )
