"""Convolutions in groups: XLA's own, with sums and products for XLA:CPU.

jaxlib 0.10.2 has no kernels for them on a CPU. It widens a depthwise one to all
channels (87 ms for 3x3 windows on 128 maps of 28 x 28 cells and 32 channels, and 86 for
the gradient of the input), and for the gradient of a kernel in groups it has nothing
but loops (2.5 s for 32 groups of 256 channels on 16 maps of 16 x 16 cells). So a
program lowered for a CPU has

- depthwise convolutions as sums of shifted maps, each times its cell of the kernel, in
  both directions: 3 and 1.4 ms of the above;
- kernel gradients in other groups as one product a group: 52 ms of the above.

In 16 bits sums are in float32 and results are rounded once. Programs for TPU and GPU
hold the convolutions of `jax.lax` and nothing else.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rtj.models.window import (
    Window,
    both_gradients,
    input_gradient,
    kernel_gradient,
    plain,
    shifted,
)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_groups(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """A convolution whose channels are in `window.groups` groups.

    Args:
        x: (N, H, W, C), any float dtype.
        kernel: (height, width, C / groups, F), of the same dtype.

    Returns:
        (N, H', W', F). Reverse mode only.
    """
    usual = partial(plain, window=window)
    if not _is_depthwise(kernel.shape, window):
        return usual(x, kernel)
    depthwise = partial(_depthwise, window=window)
    return lax.platform_dependent(x, kernel, cpu=depthwise, default=usual)


def _forward(
    x: jax.Array, kernel: jax.Array, window: Window
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve_groups(x, kernel, window), (x, kernel)


def _backward(
    window: Window, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved

    def of_depthwise(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        return jax.vjp(partial(_depthwise, window=window), x, kernel)[1](gradient)

    operands = (x, kernel, gradient)
    if _is_depthwise(kernel.shape, window):
        usual = partial(both_gradients, window=window)
        return lax.platform_dependent(*operands, cpu=of_depthwise, default=usual)
    of_kernel = lax.platform_dependent(
        *operands,
        cpu=partial(_kernel_gradient, window=window),
        default=partial(kernel_gradient, window=window),
    )
    return input_gradient(*operands, window), of_kernel


convolve_groups.defvjp(_forward, _backward)


def _is_depthwise(shape: tuple[int, ...], window: Window) -> bool:
    return shape[2] == 1 and shape[3] == window.groups


def _depthwise(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    cells = kernel.astype(wide).reshape(-1, kernel.shape[-1])
    maps = shifted(x.astype(wide), kernel.shape, window)
    total = sum(
        (seen * cell for seen, cell in zip(maps[1:], cells[1:], strict=True)),
        maps[0] * cells[0],
    )
    return total.astype(x.dtype)


def _kernel_gradient(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, window: Window
) -> jax.Array:
    """(rows, cells, groups, C / groups) by (rows, groups, F / groups), over rows."""
    maps, per_group = shifted(x, kernel.shape, window), kernel.shape[2]
    seen = jnp.stack(maps, -2).reshape(-1, len(maps), window.groups, per_group)
    gradient = gradient.reshape(len(seen), window.groups, -1)
    sums = jnp.einsum("rkgc,rgf->kcgf", seen, gradient, precision=window.precision)
    return sums.reshape(kernel.shape)
