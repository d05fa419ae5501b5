"""The convolution that networks use: XLA's own, with products for XLA:CPU.

Every array of a step on a CPU passes through jaxlib's convolutions, and of those the
gradient of a kernel is slow: jaxlib 0.10.2 takes it for a convolution whose window is
the whole map, 53 ms for 64 x 256 channels on 32 x 32 cells where a matrix product takes
5.5 ms, and it transposes the activations, which makes XLA compute them a second time.
So a program lowered for a CPU has

- 1x1 convolutions as matrix products, in both directions;
- kernel gradients of wider windows as one product of shifted inputs and outputs.

Programs for TPU and GPU, and on a CPU those in 16 bits, with groups or with few
channels, hold the convolutions of `jax.lax` and nothing else. The choice follows the
platform that a program is lowered for, not the machine that lowers it.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], ...]
_LAYOUT = ("NHWC", "HWIO", "NHWC")
# Below this XLA's own kernel gradient is faster: 46 against 53 ms at 32 channels on
# 64 x 64 cells, 40 against 23 ms at 64 on 32 x 32.
_FEWEST_CHANNELS = 64


class _Window(NamedTuple):
    strides: tuple[int, int]
    pads: Pads
    dilation: tuple[int, int]
    precision: Any


def convolve(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` for Flax's `nn.Conv(conv_general_dilated=...)`.

    Args:
        lhs: (N, H, W, C), any float dtype.
        rhs: (height, width, C / groups, F), of the same dtype.
        dimension_numbers: Flax's, which say NHWC and HWIO.

    Returns:
        (N, H', W', F). Reverse mode only: forward-mode differentiation of a
        convolution without groups raises TypeError.
    """
    spatial = rhs.ndim - 2
    dilation = tuple(rhs_dilation or (1,) * spatial)
    if (
        spatial != 2
        or feature_group_count != 1
        or any(size != 1 for size in lhs_dilation or ())
        or lhs.dtype not in (jnp.float32, jnp.float64)
    ):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            precision=precision,
        )
    strides = (window_strides[0], window_strides[1])
    if isinstance(padding, str):
        reach = [(k - 1) * d + 1 for k, d in zip(rhs.shape, dilation, strict=False)]
        padding = lax.padtype_to_pads(lhs.shape[1:3], reach, strides, padding)
    pads = tuple((low, high) for low, high in padding)
    window = _Window(strides, pads, (dilation[0], dilation[1]), precision)
    return _convolve(lhs, rhs, window)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
    plain = partial(_plain, window=window)
    if not _is_product(kernel.shape, window):
        return plain(x, kernel)
    product = partial(_product, window=window)
    return lax.platform_dependent(x, kernel, cpu=product, default=plain)


def _forward(
    x: jax.Array, kernel: jax.Array, window: _Window
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, window), (x, kernel)


def _backward(
    window: _Window, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved

    def of_input(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        return jax.linear_transpose(lambda x: _plain(x, kernel, window), x)(gradient)

    def of_kernel(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        return jax.linear_transpose(lambda k: _plain(x, k, window), kernel)(gradient)

    def of_both(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        return *of_input(x, kernel, gradient), *of_kernel(x, kernel, gradient)

    def of_product(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        return jax.vjp(partial(_product, window=window), x, kernel)[1](gradient)

    def of_shifted(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        return (kernel_gradient(x, gradient, kernel.shape, window),)

    operands = (x, kernel, gradient)
    if _is_product(kernel.shape, window):
        return lax.platform_dependent(*operands, cpu=of_product, default=of_both)
    if min(kernel.shape[2:]) < _FEWEST_CHANNELS:
        return of_both(*operands)
    of_kernels = lax.platform_dependent(*operands, cpu=of_shifted, default=of_kernel)
    return *of_input(*operands), *of_kernels


_convolve.defvjp(_forward, _backward)


def _is_product(shape: tuple[int, ...], window: _Window) -> bool:
    return shape[:2] == (1, 1) and window.pads == ((0, 0), (0, 0))


def _plain(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.pads,
        rhs_dilation=window.dilation,
        dimension_numbers=_LAYOUT,
        precision=window.precision,
    )


def _product(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
    """A 1x1 convolution as (N H' W', C) times (C, F).

    Two axes, since XLA:CPU transposes operands with more before it contracts them.
    """
    down, right = window.strides
    x = x[:, ::down, ::right]
    rows = x.reshape(-1, x.shape[-1])
    y = jnp.dot(rows, kernel[0, 0], precision=window.precision)
    return y.reshape(*x.shape[:-1], -1)


def kernel_gradient(
    x: jax.Array, gradient: jax.Array, shape: tuple[int, ...], window: _Window
) -> jax.Array:
    """The gradient of a kernel, as one matrix product.

    Args:
        x: the convolution's input (N, H, W, C).
        gradient: of its output, (N, H', W', F).
        shape: of the kernel.

    At stride 1 the copies shifted along a row are of x and those shifted along a column
    of the gradient, so that a 3x3 kernel takes 3 + 3 of them in place of 9. That adds
    products with the rows of padding; where those are many, and at other strides, all
    copies are of x.
    """
    x = jnp.pad(x, ((0, 0), *window.pads, (0, 0)))
    rows, (height, width) = x.shape[1], gradient.shape[1:3]
    down, right = (
        [step * i for i in range(size)]
        for step, size in zip(window.dilation, shape, strict=False)
    )
    if window.strides == (1, 1) and 2 * rows < 3 * height:
        wide = jnp.concatenate([x[:, :, j : j + width] for j in right], -1)
        tall = [
            jnp.pad(gradient, ((0, 0), (i, rows - height - i), (0, 0), (0, 0)))
            for i in down
        ]
        sums = _contract(wide, jnp.concatenate(tall, -1), window)
        sums = sums.reshape(shape[1], shape[2], shape[0], shape[3])
        return sums.transpose(2, 0, 1, 3)
    step_down, step_right = window.strides
    patches = [
        x[
            :,
            i : i + step_down * (height - 1) + 1 : step_down,
            j : j + step_right * (width - 1) + 1 : step_right,
        ]
        for i in down
        for j in right
    ]
    return _contract(jnp.concatenate(patches, -1), gradient, window).reshape(shape)


def _contract(a: jax.Array, b: jax.Array, window: _Window) -> jax.Array:
    """(N, H, W, A) and (N, H, W, B) to (A, B)."""
    rows = math.prod(a.shape[:-1])
    a, b = a.reshape(rows, -1), b.reshape(rows, -1)
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), precision=window.precision)
