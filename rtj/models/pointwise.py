"""A 1x1 convolution of stride 1 and the batch norm behind it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer

from rtj.models.layers import ModuleDef


class PointwiseKernel(nn.Module):
    """The parameter of a 1x1 `nn.Conv` of the same name, without its product."""

    features: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, channels: int) -> jax.Array:
        """(channels, features), float32."""
        shape = (1, 1, channels, self.features)
        return self.param("kernel", self.kernel_init, shape, jnp.float32)[0, 0]


def pointwise_conv_norm(
    x: jax.Array,
    features: int,
    conv: ModuleDef,
    norm: ModuleDef,
    *,
    names: tuple[str, str],
    train: bool,
    gram: bool,
    use_bias: bool = False,
    **options: Any,
) -> jax.Array:
    """norm(conv(x)); call it inside a compact method.

    Args:
        conv, norm: from `rtj.models.layers.conv_and_norm`.
        names: of the convolution and of the norm.
        gram: whether training takes statistics from the Gram matrix of x, see
            `rtj.models.gram_norm`; not with `use_bias`.
        options: of `norm`.
    """
    conv_name, norm_name = names
    normalize = norm(name=norm_name, **options)
    if not (gram and train) or use_bias:
        x = conv(features, 1, use_bias=use_bias, name=conv_name)(x)
        return normalize(x, train=train)
    defaults = conv.keywords
    kernel = PointwiseKernel(features, defaults["kernel_init"], name=conv_name)
    x = x.astype(defaults["dtype"])
    return normalize(x, train=True, kernel=kernel(x.shape[-1]).astype(x.dtype))
