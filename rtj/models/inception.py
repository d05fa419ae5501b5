"""Inception-V3 (Szegedy et al., arXiv 1512.00567), for images of 299 pixels.

As in torchvision, timm and gluon-cv: batch norm with 1e-3 added to the variance,
dropout 0.5 before the classifier. torchvision's own weights were trained in
TensorFlow and expect images in [-1, 1]: mean 0.5 and deviation 0.5.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from rtj.errors import ConfigError
from rtj.models import layers
from rtj.models.inception_blocks import ConvBN, Mixed, Unit
from rtj.models.layers import ModuleDef
from rtj.models.max_pool import max_pool
from rtj.tricks.initializers import kernel_initializer

# Name, features, kernel, stride, padding; a pool follows 2b and 4a.
_STEM: tuple[tuple[Any, ...], ...] = (
    ("Conv2d_1a_3x3", 32, 3, 2, "valid"),
    ("Conv2d_2a_3x3", 32, 3, 1, "valid"),
    ("Conv2d_2b_3x3", 64, 3, 1, "symmetric"),
    ("Conv2d_3b_1x1", 80, 1, 1, "valid"),
    ("Conv2d_4a_3x3", 192, 3, 1, "valid"),
)
_POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")
_AUX_AFTER = "Mixed_6e"


def _mixed_5() -> tuple[Any, ...]:
    return (
        (Unit("branch1x1", 64, 1),),
        (Unit("branch5x5_1", 48, 1), Unit("branch5x5_2", 64, 5)),
        (
            Unit("branch3x3dbl_1", 64, 1),
            Unit("branch3x3dbl_2", 96, 3),
            Unit("branch3x3dbl_3", 96, 3),
        ),
    )


def _mixed_6a() -> tuple[Any, ...]:
    return (
        (Unit("branch3x3", 384, 3, 2),),
        (
            Unit("branch3x3dbl_1", 64, 1),
            Unit("branch3x3dbl_2", 96, 3),
            Unit("branch3x3dbl_3", 96, 3, 2),
        ),
    )


def _mixed_6(inner: int) -> tuple[Any, ...]:
    return (
        (Unit("branch1x1", 192, 1),),
        (
            Unit("branch7x7_1", inner, 1),
            Unit("branch7x7_2", inner, (1, 7)),
            Unit("branch7x7_3", 192, (7, 1)),
        ),
        (
            Unit("branch7x7dbl_1", inner, 1),
            Unit("branch7x7dbl_2", inner, (7, 1)),
            Unit("branch7x7dbl_3", inner, (1, 7)),
            Unit("branch7x7dbl_4", inner, (7, 1)),
            Unit("branch7x7dbl_5", 192, (1, 7)),
        ),
    )


def _mixed_7a() -> tuple[Any, ...]:
    return (
        (Unit("branch3x3_1", 192, 1), Unit("branch3x3_2", 320, 3, 2)),
        (
            Unit("branch7x7x3_1", 192, 1),
            Unit("branch7x7x3_2", 192, (1, 7)),
            Unit("branch7x7x3_3", 192, (7, 1)),
            Unit("branch7x7x3_4", 192, 3, 2),
        ),
    )


def _mixed_7() -> tuple[Any, ...]:
    return (
        (Unit("branch1x1", 320, 1),),
        (
            Unit("branch3x3_1", 384, 1),
            (Unit("branch3x3_2a", 384, (1, 3)), Unit("branch3x3_2b", 384, (3, 1))),
        ),
        (
            Unit("branch3x3dbl_1", 448, 1),
            Unit("branch3x3dbl_2", 384, 3),
            (
                Unit("branch3x3dbl_3a", 384, (1, 3)),
                Unit("branch3x3dbl_3b", 384, (3, 1)),
            ),
        ),
    )


# Name, branches, features after the average pool (0: the block strides).
_MIXED: tuple[tuple[str, tuple[Any, ...], int], ...] = (
    ("Mixed_5b", _mixed_5(), 32),
    ("Mixed_5c", _mixed_5(), 64),
    ("Mixed_5d", _mixed_5(), 64),
    ("Mixed_6a", _mixed_6a(), 0),
    ("Mixed_6b", _mixed_6(128), 192),
    ("Mixed_6c", _mixed_6(160), 192),
    ("Mixed_6d", _mixed_6(160), 192),
    ("Mixed_6e", _mixed_6(192), 192),
    ("Mixed_7a", _mixed_7a(), 0),
    ("Mixed_7b", _mixed_7(), 192),
    ("Mixed_7c", _mixed_7(), 192),
)


class AuxHead(nn.Module):
    """The auxiliary classifier on 17x17 maps: float32 logits (N, classes)."""

    num_classes: int
    initializer: str
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if min(x.shape[1:3]) < 17:
            raise ConfigError(
                f"aux_head reads a map of 17x17 or more, this one is "
                f"{x.shape[1]}x{x.shape[2]}; allowed: images of 299 pixels"
            )
        x = nn.avg_pool(x, (5, 5), (3, 3))
        for name, features, kernel in (("conv0", 128, 1), ("conv1", 768, 5)):
            unit = ConvBN(features, kernel, 1, "valid", self.conv, self.norm, name=name)
            x = unit(x, train=train)
        return layers.classify(
            x,
            self.num_classes,
            dropout=0.0,
            kernel_init=kernel_initializer(self.initializer),
            train=train,
        )


class InceptionV3(nn.Module):
    """Inception-V3 over NHWC images of 75 pixels or more; gives float32 logits.

    Attributes:
        aux_head: the auxiliary classifier of training. It runs only with
            `train=True` and stores its logits as `logits` in the collection
            `aux`: apply with `mutable=["batch_stats", "aux"]` to get them.
            TensorFlow's and PyTorch's recipes add 0.4 times their loss.
        dropout: rate before the classifier.
        num_classes, initializer, bn_group_size, bn_momentum, bn_epsilon, dtype:
            see `ResNet`.
    """

    aux_head: bool = False
    num_classes: int = 1000
    initializer: Literal["xavier", "msra"] = "xavier"
    bn_group_size: int = 0
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-3
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32
    native_size = 299

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Images (N, H, W, 3) to logits (N, classes); see `ResNet.__call__`."""
        if min(images.shape[1:3]) < 75:
            raise ConfigError(
                f"images are {images.shape[1]}x{images.shape[2]} pixels; allowed "
                "by inception_v3: 75 and more a side"
            )
        conv, norm = layers.conv_and_norm(self)
        x = images.astype(self.dtype)
        for name, features, kernel, stride, padding in _STEM:
            unit = ConvBN(features, kernel, stride, padding, conv, norm, name=name)
            x = unit(x, train=train)
            x = max_pool(x, 3, 2) if name in _POOLED else x
        for name, branches, pool_features in _MIXED:
            x = Mixed(branches, pool_features, conv, norm, name=name)(x, train=train)
            # The head's parameters must exist even if `init` runs in evaluation.
            needed = train or self.is_initializing()
            if name == _AUX_AFTER and self.aux_head and needed:
                head = AuxHead(
                    self.num_classes,
                    self.initializer,
                    conv,
                    norm,
                    name="AuxLogits",
                )
                logits = head(x, train=train)
                if not self.is_initializing():
                    self.sow("aux", "logits", logits, reduce_fn=lambda _, new: new)
        return layers.classify(
            x,
            self.num_classes,
            dropout=self.dropout,
            kernel_init=kernel_initializer(self.initializer),
            train=train,
        )
