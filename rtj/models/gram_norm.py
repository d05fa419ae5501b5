"""A 1x1 convolution and its batch norm, whose input alone says all statistics.

With A (n, K) the pixels of a group, W (K, C) the kernel and Y = A W:

    m   = mean of A's rows,   S = A'A / n - m m'         (the Gram matrix, centred)
    mu  = m W,                var_c = w_c' S w_c          (of Y's channel c)
    Z   = gamma (Y - mu) r + beta,   r = 1 / sqrt(var + epsilon)

So Y is normalised as it is made. And with dZ the gradient of Z, P = A'dZ, s = sum of
dZ's rows, t_c = r_c (w_c' p_c - mu_c s_c), which is the sum over n of dZ (Y - mu) r:

    dbeta = s,   dgamma = t
    dW = gamma r [P - m s' - (S W) (r t)]
    dA = dZ (gamma r W)' - A [(W d) W'] + (mu d - gamma r s / n) W',
         d = gamma r^2 t / n

(products with a row of C numbers scale columns). Neither pass needs Y, the largest
array of a residual block, again: forward it is not kept, and backward P stands for
the three reductions over it. The usual way reads or writes an array of Y's size twice
more forward and five times more backward. In exchange there are two products with
K x K results, a quarter of Y's own work each where C = 4 K.

Y is never rounded to 16 bits, and W is, as for the convolution, before anything.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_Residuals = tuple[jax.Array, ...]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def pointwise_norm(
    x: jax.Array, kernel: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Batch norm of `x @ kernel` in training.

    Args:
        x: (groups, group_size, ..., K), any float dtype.
        kernel: (K, C), of x's dtype.
        scale, bias: gamma and beta, (C,), float32, or float64 as x.
        epsilon: added to the variance.

    Returns:
        The normalised product (groups, group_size, ..., C) in x's dtype; its mean and
        biased variance, (groups, C) in scale's dtype. No gradient passes through these.
    """
    return _forward(x, kernel, scale, bias, epsilon)[0]


def _forward(
    x: jax.Array, kernel: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], _Residuals]:
    exact = kernel.astype(scale.dtype)
    center = x.astype(scale.dtype).mean(_pixels(x))
    gram = _over_pixels(x, x, scale) / _count(x)
    spread = _times(gram - center[:, :, None] * center[:, None, :], exact)
    mean = _times(center, exact)
    var = jnp.maximum((spread * exact).sum(1), 0)
    inverse = lax.rsqrt(var + epsilon)
    gain = scale * inverse
    product = _dot(x, kernel, ((x.ndim - 1,), (0,)), scale)
    z = (product - _aligned(mean, x)) * _aligned(gain, x) + bias
    saved = (x, kernel, scale, center, spread, mean, inverse)
    return (z.astype(x.dtype), mean, var), saved


def _backward(
    epsilon: float, saved: _Residuals, cotangents: tuple[jax.Array, Any, Any]
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    x, kernel, scale, center, spread, mean, inverse = saved
    dz, n = cotangents[0], _count(x)
    exact = kernel.astype(scale.dtype)
    projected = _over_pixels(x, dz, scale)
    total = dz.astype(scale.dtype).sum(_pixels(x))
    slope = inverse * ((exact * projected).sum(1) - mean * total)
    gain = scale * inverse
    outer = center[:, :, None] * total[:, None]
    dkernel = gain[:, None] * (projected - outer - spread * (inverse * slope)[:, None])
    curve = gain * inverse * slope / n
    bend = _times(exact * curve[:, None], exact.T)
    offset = _times(mean * curve - gain * total / n, exact.T)
    back = jnp.swapaxes(exact * gain[:, None], 1, 2).astype(x.dtype)
    # In x's dtype: the sum's other product adds to it in float32 before it is kept.
    dx = _per_group(dz, back, dz.dtype).astype(scale.dtype)
    dx = dx - _per_group(x, bend.astype(x.dtype), scale.dtype) + _aligned(offset, x)
    return (
        dx.astype(x.dtype),
        dkernel.sum(0).astype(kernel.dtype),
        slope.sum(0),
        total.sum(0),
    )


pointwise_norm.defvjp(_forward, _backward)


def _pixels(x: jax.Array) -> tuple[int, ...]:
    """The axes that a group's statistics are taken over."""
    return tuple(range(1, x.ndim - 1))


def _count(x: jax.Array) -> int:
    return x.size // (x.shape[0] * x.shape[-1])


def _aligned(per_group: jax.Array, x: jax.Array) -> jax.Array:
    """(groups, C) to (groups, 1, ..., C)."""
    return per_group.reshape(x.shape[0], *(1,) * (x.ndim - 2), -1)


def _times(a: jax.Array, b: jax.Array) -> jax.Array:
    """A small product, in full precision on TPUs and GPUs too."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _dot(a: jax.Array, b: jax.Array, axes: Any, like: jax.Array) -> jax.Array:
    return lax.dot_general(a, b, (axes, ((), ())), preferred_element_type=like.dtype)


def _over_pixels(a: jax.Array, b: jax.Array, like: jax.Array) -> jax.Array:
    """a'b of each group: (groups, ..., K) and (groups, ..., C) to (groups, K, C)."""
    dims = ((_pixels(a), _pixels(b)), ((0,), (0,)))
    return lax.dot_general(a, b, dims, preferred_element_type=like.dtype)


def _per_group(a: jax.Array, matrix: jax.Array, dtype: Any) -> jax.Array:
    """(groups, ..., K) times (groups, K, C)."""
    dims = (((a.ndim - 1,), (1,)), ((0,), (0,)))
    return lax.dot_general(a, matrix, dims, preferred_element_type=dtype)
