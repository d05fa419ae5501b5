"""The window of a convolution, and what of a map each of its places shows."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")


class Window(NamedTuple):
    """How a kernel moves over a map; each pair is of rows and columns."""

    strides: tuple[int, int]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, int]
    precision: Any
    groups: int = 1


def plain(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The convolution of `jax.lax`."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.pads,
        rhs_dilation=window.dilation,
        dimension_numbers=_LAYOUT,
        feature_group_count=window.groups,
        precision=window.precision,
    )


def input_gradient(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, window: Window
) -> jax.Array:
    """What `plain` gives x for the gradient of its result."""
    return _transposed(lambda x: plain(x, kernel, window), x, gradient)


def kernel_gradient(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, window: Window
) -> jax.Array:
    """What `plain` gives the kernel for the gradient of its result."""
    return _transposed(lambda kernel: plain(x, kernel, window), kernel, gradient)


def _transposed(
    linear: Callable[[jax.Array], jax.Array], operand: jax.Array, gradient: jax.Array
) -> jax.Array:
    (found,) = jax.linear_transpose(linear, operand)(gradient)
    return cast(jax.Array, found)


def both_gradients(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, window: Window
) -> tuple[jax.Array, jax.Array]:
    """Those of `plain`."""
    operands = (x, kernel, gradient, window)
    return input_gradient(*operands), kernel_gradient(*operands)


def result_size(
    shape: tuple[int, ...], kernel: tuple[int, ...], window: Window
) -> tuple[int, int]:
    """Height and width of the convolution of operands of these shapes."""
    height, width = (
        (size + sum(pad) - (k - 1) * step - 1) // stride + 1
        for size, k, stride, pad, step in zip(
            shape[1:3],
            kernel,
            window.strides,
            window.pads,
            window.dilation,
            strict=False,
        )
    )
    return height, width


def shifts(size: int, dilation: int) -> list[int]:
    """Where the cells of a kernel's axis lie from its first."""
    return [dilation * i for i in range(size)]


def shifted(x: jax.Array, kernel: tuple[int, ...], window: Window) -> list[jax.Array]:
    """What each cell of a kernel of this shape meets, row by row, (N, H', W', C)."""
    (height, width), (down, right) = (
        result_size(x.shape, kernel, window),
        window.strides,
    )
    x = jnp.pad(x, ((0, 0), *window.pads, (0, 0)))
    return [
        x[
            :,
            i : i + down * (height - 1) + 1 : down,
            j : j + right * (width - 1) + 1 : right,
        ]
        for i in shifts(kernel[0], window.dilation[0])
        for j in shifts(kernel[1], window.dilation[1])
    ]
