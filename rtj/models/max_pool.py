"""The max pool, with a gradient of its own in programs for a CPU.

For the gradient XLA:CPU looks for every window's maximum again, carrying three index
arrays along, and scatters: about 0.15 of the 2.2 CPU seconds of a ResNet-50-D step on
16 images of 128 pixels. Here it is a few shifted copies. Programs for TPU and GPU hold
XLA's operation; the choice follows the platform that a program is lowered for.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]
Pull = Callable[[jax.Array], tuple[jax.Array]]


class _Window(NamedTuple):
    size: int
    stride: int
    pads: Pads


def max_pool(
    x: jax.Array, size: int, stride: int, pads: Pads = ((0, 0), (0, 0))
) -> jax.Array:
    """Maximum over windows of size x size cells.

    Args:
        x: (N, H, W, C), any float dtype.
        pads: rows above and below, columns left and right; they never win.

    Returns:
        (N, H', W', C). Of equal cells in a window the first, row by row, has the
        gradient. Reverse mode only.
    """
    return _max_pool(x, _Window(size, stride, pads))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: jax.Array, window: _Window) -> jax.Array:
    sides = ((window.size,) * 2, (window.stride,) * 2)
    return nn.max_pool(x, *sides, window.pads)


def _forward(x: jax.Array, window: _Window) -> tuple[jax.Array, Any]:
    y, pull = jax.vjp(partial(_max_pool.fun, window=window), x)
    return y, (x, y, pull)


def _backward(window: _Window, saved: Any, gradient: jax.Array) -> tuple[jax.Array]:
    x, y, pull = saved

    def of_xla(x: jax.Array, y: jax.Array, gradient: jax.Array) -> jax.Array:
        return pull(gradient)[0]

    shifted = partial(max_pool_gradient, window=window)
    return (lax.platform_dependent(x, y, gradient, cpu=shifted, default=of_xla),)


_max_pool.defvjp(_forward, _backward)


def max_pool_gradient(
    x: jax.Array, y: jax.Array, gradient: jax.Array, window: _Window
) -> jax.Array:
    """The gradient of a pool's input x from its output y and the gradient of that.

    Cell i of a window lies i // stride places on among the cells that have the same
    remainder as i, so each remainder of row and column is a sum of shifted arrays of
    y's size, and the input is those interleaved.
    """
    size, stride, pads = window
    height, width = y.shape[1:3]
    lowest = jnp.array(-jnp.inf, x.dtype)
    padded = lax.pad(x, lowest, _edges(*pads))
    reach = (size - 1) // stride
    zero = jnp.zeros((), x.dtype)
    planes: dict[tuple[int, int], jax.Array] = {}
    free = jnp.ones(y.shape, bool)
    for i in range(size):
        for j in range(size):
            cell = padded[
                :,
                i : i + stride * (height - 1) + 1 : stride,
                j : j + stride * (width - 1) + 1 : stride,
            ]
            won = free & (cell == y)
            free &= ~won
            down, right = i // stride, j // stride
            edges = _edges((down, reach - down), (right, reach - right))
            part = lax.pad(jnp.where(won, gradient, 0), zero, edges)
            place = i % stride, j % stride
            planes[place] = planes[place] + part if place in planes else part
    plane = jnp.zeros_like(part)
    rows = [
        jnp.stack([planes.get((i, j), plane) for j in range(stride)], 3)
        for i in range(stride)
    ]
    whole = jnp.stack(rows, 2)
    n, channels = x.shape[0], x.shape[3]
    whole = whole.reshape(n, stride * (height + reach), stride * (width + reach), channels)
    ends = [
        (-low, low + length - found)
        for (low, _), length, found in zip(
            pads, x.shape[1:3], whole.shape[1:3], strict=True
        )
    ]
    return lax.pad(whole, zero, _edges(*ends))


def _edges(
    rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[tuple[int, int, int], ...]:
    return ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0))
