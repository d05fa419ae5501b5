"""The layers all networks share: convolution, pooling and the classifier."""

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from rtj.models.average_pool import average_of_map
from rtj.models.batch_norm import BatchNorm
from rtj.models.convolution import convolve
from rtj.models.max_pool import max_pool
from rtj.tricks.initializers import kernel_initializer

Padding = Literal["symmetric", "valid", "same"]
# A layer with its dtype and initialiser filled in by `functools.partial`.
ModuleDef = Any


def conv(
    features: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    padding: Padding = "symmetric",
    dtype: DTypeLike,
    kernel_init: Initializer,
    name: str,
) -> nn.Conv:
    """An NHWC convolution, kernel (height, width) or a square one.

    `symmetric` pads by dilation * (kernel // 2) on each side, as PyTorch and
    MXNet do; `same` is TensorFlow's, which pads unevenly at stride 2, so that
    weights trained with one give other results with the other (google/flax#963).
    Parameters are float32, the convolution runs in `dtype`.
    """
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    pads = [(dilation * (k // 2), dilation * (k // 2)) for k in size]
    return nn.Conv(
        features,
        size,
        strides=stride,
        kernel_dilation=dilation,
        feature_group_count=groups,
        padding=pads if padding == "symmetric" else padding.upper(),
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=kernel_init,
        name=name,
        conv_general_dilated=convolve,
    )


def conv_and_norm(network: Any) -> tuple[ModuleDef, ModuleDef]:
    """`conv` and `BatchNorm` with what a network's fields say of all its layers."""
    convolution = partial(
        conv,
        dtype=network.dtype,
        kernel_init=kernel_initializer(network.initializer),
    )
    norm = partial(
        BatchNorm,
        group_size=network.bn_group_size,
        momentum=network.bn_momentum,
        epsilon=network.bn_epsilon,
        dtype=network.dtype,
    )
    return convolution, norm


def max_pool_3x3(x: jax.Array) -> jax.Array:
    """3x3 maximum, stride 2, one pixel of padding on each side."""
    return max_pool(x, 3, 2, ((1, 1), (1, 1)))


def classify(
    x: jax.Array,
    num_classes: int,
    *,
    dropout: float,
    kernel_init: Initializer,
    train: bool,
) -> jax.Array:
    """Global average pool, dropout and the dense layer `fc`, all in float32.

    Takes (N, H, W, C) in any dtype, gives (N, num_classes) float32 logits. At
    2048 x 1000 weights the dense layer is 0.05 % of ResNet-50's multiply-adds,
    so low precision would save nothing here. Call it inside a compact method.
    """
    x = average_of_map(x.astype(jnp.promote_types(jnp.float32, x.dtype)))
    x = nn.Dropout(dropout, deterministic=not train)(x)
    return nn.Dense(num_classes, kernel_init=kernel_init, name="fc")(x)
