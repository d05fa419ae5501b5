"""Squeeze and excitation (Hu et al., arXiv 1709.01507), sized as timm's is."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from rtj.models.layers import ModuleDef


class SqueezeExcite(nn.Module):
    """Scales each channel by a sigmoid of all channels' spatial means.

    Two 1x1 convolutions with biases, `fc1` to channels / 16 (rounded to the
    nearest multiple of 8, at least 8: timm's `rd_ratio=1/16, rd_divisor=8`) and
    `fc2` back. The means are taken in float32. (..., H, W, C) to the same.
    """

    conv: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        squeezed = max(8, (channels // 16 + 4) // 8 * 8)
        wide = jnp.promote_types(jnp.float32, x.dtype)
        y = x.mean(axis=(-3, -2), keepdims=True, dtype=wide).astype(x.dtype)
        y = nn.relu(self.conv(squeezed, 1, use_bias=True, name="fc1")(y))
        y = self.conv(channels, 1, use_bias=True, name="fc2")(y)
        return x * nn.sigmoid(y)
