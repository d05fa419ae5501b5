"""The max pool, with a gradient of its own in programs for a CPU.

For the gradient XLA:CPU looks for every window's maximum again, carrying three index
arrays along, and scatters: 106 ms of CPU time for 16 maps of 64 x 64 cells and 64
channels. As shifted copies it takes 17. Programs for TPU and GPU hold XLA's operation;
the choice follows the platform that a program is lowered for.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]
_Saved = tuple[jax.Array, Callable[[jax.Array], tuple[jax.Array]]]


class Window(NamedTuple):
    """Cells a side, cells from window to window, and cells of padding."""

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
        gradient. Reverse mode only: forward-mode differentiation raises TypeError.
    """
    return _max_pool(x, Window(size, stride, pads))


def _pool(x: jax.Array, window: Window) -> jax.Array:
    sides, strides = (window.size,) * 2, (window.stride,) * 2
    return nn.max_pool(x, sides, strides, window.pads)


_max_pool = jax.custom_vjp(_pool, nondiff_argnums=(1,))


def _forward(x: jax.Array, window: Window) -> tuple[jax.Array, _Saved]:
    y, pull = jax.vjp(partial(_pool, window=window), x)
    return y, (x, pull)


def _backward(window: Window, saved: _Saved, gradient: jax.Array) -> tuple[jax.Array]:
    x, pull = saved

    def of_xla(x: jax.Array, gradient: jax.Array) -> jax.Array:
        return pull(gradient)[0]

    shifted = partial(max_pool_gradient, window=window)
    return (lax.platform_dependent(x, gradient, cpu=shifted, default=of_xla),)


_max_pool.defvjp(_forward, _backward)


def max_pool_gradient(x: jax.Array, gradient: jax.Array, window: Window) -> jax.Array:
    """The gradient of a pool's input x from that of its output.

    Row i of a window is row i % stride of the stride rows that are i // stride windows
    further down, and so for columns. So the cells of each pair of remainders are a sum
    of shifted arrays of the output's size, and the input is those interleaved.
    """
    size, stride, pads = window
    reach = (size - 1) // stride
    cells = _cells(x, gradient.shape, window)
    largest = _pool(x, window)
    planes = [[jnp.zeros((), x.dtype)] * stride for _ in range(stride)]
    free = jnp.ones(gradient.shape, bool)
    for (i, j), cell in cells.items():
        won = free & (cell == largest)
        free &= ~won
        (down, row), (right, column) = divmod(i, stride), divmod(j, stride)
        edges = _edges((down, reach - down), (right, reach - right))
        part = lax.pad(jnp.where(won, gradient, 0), jnp.array(0, x.dtype), edges)
        planes[row][column] = planes[row][column] + part
    return _interleave(planes, part.shape, x.shape, pads)


def _cells(
    x: jax.Array, shape: tuple[int, ...], window: Window
) -> dict[tuple[int, int], jax.Array]:
    """Cell (i, j) of every window, (N, H', W', C), row by row."""
    padded = lax.pad(x, jnp.array(-jnp.inf, x.dtype), _edges(*window.pads))
    ends = [window.stride * (length - 1) + 1 for length in shape[1:3]]
    return {
        (i, j): padded[
            :, i : i + ends[0] : window.stride, j : j + ends[1] : window.stride
        ]
        for i in range(window.size)
        for j in range(window.size)
    }


def _interleave(
    planes: list[list[jax.Array]],
    plane: tuple[int, ...],
    shape: tuple[int, ...],
    pads: Pads,
) -> jax.Array:
    """planes[i][j], of one shape, to the rows i, i + stride, ... of (N, H, W, C)."""
    rows = [
        jnp.stack([jnp.broadcast_to(p, plane) for p in columns], 3)
        for columns in planes
    ]
    stride, (n, height, width, channels) = len(planes), plane
    whole = jnp.stack(rows, 2).reshape(n, stride * height, stride * width, channels)
    ends = [
        (-low, low + wanted - found)
        for (low, _), wanted, found in zip(
            pads, shape[1:3], whole.shape[1:3], strict=True
        )
    ]
    return lax.pad(whole, jnp.array(0, whole.dtype), _edges(*ends))


def _edges(
    rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[tuple[int, int, int], ...]:
    """Of a (N, H, W, C) array, for `lax.pad`; negative ones cut."""
    return ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0))
