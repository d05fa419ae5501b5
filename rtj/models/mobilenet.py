"""MobileNet V1 (Howard et al., arXiv 1704.04861).

The libraries agree on the layers and differ in three details:

| weights of | `activation` | `padding` | `bn_epsilon` |
|---|---|---|---|
| gluon-cv (the default) | `relu` | `symmetric` | 1e-5 |
| timm | `relu6` | `symmetric` | 1e-5 |
| TensorFlow | `relu6` | `same` | 1e-3 |
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from rtj.models import layers
from rtj.models.layers import ModuleDef
from rtj.tricks.initializers import kernel_initializer

# Per stage: channels at multiplier 1, blocks, stride of the first block.
_STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
_ACTIVATIONS = {"relu": nn.relu, "relu6": nn.relu6}
Activation = Callable[[jax.Array], jax.Array]


class SeparableBlock(nn.Module):
    """3x3 per channel, then 1x1 over channels, each with BN and activation."""

    features: int
    stride: int
    activation: Activation
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = x.shape[-1]
        x = self.conv(channels, 3, stride=self.stride, groups=channels, name="conv_dw")(
            x
        )
        x = self.activation(self.norm(name="bn1")(x, train=train))
        x = self.conv(self.features, 1, name="conv_pw")(x)
        return self.activation(self.norm(name="bn2")(x, train=train))


class Stem(nn.Module):
    """A 3x3 convolution of stride 2 (1 with `small_images`), BN and activation."""

    features: int
    small_images: bool
    activation: Activation
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        stride = 1 if self.small_images else 2
        x = self.conv(self.features, 3, stride=stride, name="conv1")(x)
        return self.activation(self.norm(name="bn1")(x, train=train))


class MobileNet(nn.Module):
    """A network of depthwise separable convolutions; gives float32 logits.

    Attributes:
        multiplier: of all channel counts; 1, 0.75, 0.5 or 0.25 in the paper.
        padding: `symmetric` (PyTorch, MXNet) or `same` (TensorFlow).
        activation: `relu` or `relu6`.
        num_classes, small_images, initializer, bn_group_size, bn_momentum,
            bn_epsilon, dropout, dtype: see `ResNet`.
    """

    multiplier: float = 1.0
    padding: Literal["symmetric", "same"] = "symmetric"
    activation: Literal["relu", "relu6"] = "relu"
    num_classes: int = 1000
    small_images: bool = False
    initializer: Literal["xavier", "msra"] = "xavier"
    bn_group_size: int = 0
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    native_size = 224

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Images (N, H, W, 3) to logits (N, classes); see `ResNet.__call__`."""
        conv, norm = layers.conv_and_norm(self)
        conv = partial(conv, padding=self.padding)
        activation = _ACTIVATIONS[self.activation]
        x = Stem(
            int(32 * self.multiplier),
            self.small_images,
            activation,
            conv,
            norm,
            name="stem",
        )(images.astype(self.dtype), train=train)
        for stage, (channels, blocks, stride) in enumerate(_STAGES, start=1):
            for i in range(blocks):
                x = SeparableBlock(
                    int(channels * self.multiplier),
                    stride if i == 0 else 1,
                    activation,
                    conv,
                    norm,
                    name=f"layer{stage}_{i}",
                )(x, train=train)
        return layers.classify(
            x,
            self.num_classes,
            dropout=self.dropout,
            kernel_init=kernel_initializer(self.initializer),
            train=train,
        )
