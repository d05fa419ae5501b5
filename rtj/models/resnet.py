"""ResNet and the paper's tweaks B, C and D (section 4, figure 2), and its kin.

Three switches tell the variants apart, and each can be set alone:

| name | `stride_in` | `stem` | `pooled_shortcut` |
|---|---|---|---|
| ResNet ("A", `resnet50`) | first 1x1 | 7x7 | no |
| ResNet-B (`resnet50b`) | 3x3 | 7x7 | no |
| ResNet-C (`resnet50c`) | 3x3 | three 3x3 | no |
| ResNet-D (`resnet50d`) | 3x3 | three 3x3 | yes |
| gluon-cv's S (`resnet50s`) | 3x3 | three 3x3, 64 wide | no |

timm and torchvision call ResNet-B `resnet50`. gluon-cv's `v1` is the A network
with biases in its 1x1 convolutions: `bias_1x1=True`. The paper's sentence on
ResNet-C gives stride 2 to the first two stem convolutions; its figure 2b and the
reference code give it to the first only, and so does this file.

ResNeXt (arXiv 1611.05431) and SE-ResNet (arXiv 1709.01507) are the same network
with a grouped 3x3 and with squeeze and excitation.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from rtj.errors import ConfigError
from rtj.models import layers
from rtj.models.layers import ModuleDef
from rtj.models.resnet_blocks import BasicBlock, Bottleneck, DilatedPool, StrideIn
from rtj.tricks.initializers import kernel_initializer
from rtj.tricks.zero_gamma import last_gamma_initializer


class Stem(nn.Module):
    """The input layers: 7x7 or three 3x3 convolutions, each with BN and ReLU.

    With `small_images` (32 pixels and less) nothing is strided or pooled and the
    7x7 becomes a 3x3, as in the CIFAR networks. Without `pool` the stride is 2.
    """

    kind: str
    width: int
    features: int
    small_images: bool
    conv: ModuleDef
    norm: ModuleDef
    pool: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        stride = 1 if self.small_images else 2
        kernel = 3 if self.small_images else 7
        plan = [(self.features, kernel)]
        if self.kind == "deep":
            plan = [(self.width, 3), (self.width, 3), (self.features, 3)]
        pooled = self.pool and not self.small_images
        for i, (features, size) in enumerate(plan, start=1):
            x = self.conv(
                features, size, stride=stride if i == 1 else 1, name=f"conv{i}"
            )(x)
            pool = layers.max_pool_3x3 if pooled and i == len(plan) else None
            x = nn.relu(self.norm(name=f"bn{i}")(x, train=train, pool=pool))
        return x


class ResNet(nn.Module):
    """A residual network over NHWC images; gives float32 logits.

    Attributes:
        stage_sizes: residual blocks in each of the four stages.
        block: `bottleneck` or `basic`.
        num_classes: size of the classifier.
        stride_in: `1x1` or `3x3`, where a bottleneck strides.
        stem: `7x7` or `deep` (three 3x3).
        pooled_shortcut: average pool before a strided shortcut's 1x1.
        width: channels of the first stage (64 in the paper).
        stem_width: channels of the deep stem's first two convolutions; 0 is
            width / 2, as in the paper. The third has twice as many.
        groups, group_width: of ResNeXt's 3x3 (32 and 4), see `Bottleneck`.
        squeeze_excite: see `SqueezeExcite`.
        bias_1x1: biases in a bottleneck's two 1x1 convolutions (gluon-cv's v1).
        output_stride: 32, or 16 or 8 to dilate the last one or two stages
            instead of striding them, for segmentation. It counts the stem's
            stride of 4, with `small_images` and without `stem_pool` too.
        dilated_pool: the pooled shortcut of a dilated stage: `identity` (gluon-cv)
            or `same`, a 2x2 pool of stride 1 (timm). Weights trained with one
            give other results with the other.
        small_images: a stem without stride, for images of 32 pixels and less.
        stem_pool: whether the stem ends with a max pool; False for images of about
            100 pixels, whose maps are then twice as wide.
        zero_gamma: see `rtj.tricks.zero_gamma`.
        initializer: see `rtj.tricks.initializers`.
        bn_group_size, bn_momentum, bn_epsilon: see `BatchNorm`.
        gram_norm: whether a bottleneck's last batch norm takes its statistics from a
            Gram matrix in training (`rtj.models.gram_norm`): the same numbers but for
            rounding, a quarter less memory traffic.
        recompute: whether training keeps only what goes into each block and computes
            its inside again for the gradient: a third of the memory, a third more
            arithmetic, the same numbers.
        dropout: rate before the classifier; 0 in the paper.
        dtype: dtype of activations and convolutions.
    """

    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    block: Literal["bottleneck", "basic"] = "bottleneck"
    num_classes: int = 1000
    stride_in: StrideIn = "1x1"
    stem: Literal["7x7", "deep"] = "7x7"
    pooled_shortcut: bool = False
    width: int = 64
    stem_width: int = 0
    groups: int = 1
    group_width: int = 64
    squeeze_excite: bool = False
    bias_1x1: bool = False
    output_stride: int = 32
    dilated_pool: DilatedPool = "identity"
    small_images: bool = False
    stem_pool: bool = True
    zero_gamma: bool = False
    initializer: Literal["xavier", "msra"] = "xavier"
    bn_group_size: int = 0
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    gram_norm: bool = False
    recompute: bool = False
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    native_size = 224

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool = False,
        stages: bool = False,
        start: int = 0,
        stop: int | None = None,
    ) -> jax.Array | list[jax.Array]:
        """Images (N, H, W, 3), normalised, any float dtype, to logits (N, classes).

        With `train=True` pass `mutable=["batch_stats"]` to `apply`, and an rng
        named `dropout` if `dropout` is not 0. With `stages=True` it gives the
        outputs of the stages, (N, h, w, channels) in `dtype`, and has no classifier.

        Only the stages of `range(start, stop)` run, all by default. The stem belongs
        to the first; with a later start the input is the map of the stage before. A
        detector calls one network twice, on an image and on parts of its map: those
        are (N, R, h, w, channels), and batch norm's groups still hold whole images.
        """
        conv, norm = layers.conv_and_norm(self)
        x = images.astype(self.dtype)
        if start == 0:
            x = Stem(
                self.stem,
                self.stem_width or self.width // 2,
                2 * self.stem_width or self.width,
                self.small_images,
                conv,
                norm,
                self.stem_pool,
                name="stem",
            )(x, train=train)
        block = self._block(conv, norm)
        run = _recomputed if self.recompute and train else _run
        maps: dict[int, jax.Array] = {}
        chosen = range(len(self.stage_sizes))[start:stop]
        for place in _places(self.stage_sizes, self.output_stride):
            if place.stage not in chosen:
                continue
            module = block(
                features=self.width * 2**place.stage,
                stride=place.stride,
                first_dilation=place.first_dilation,
                dilation=place.dilation,
                name=f"layer{place.stage + 1}_{place.number}",
            )
            x = run(module, x, train)
            maps[place.stage] = x
        if stages:
            return list(maps.values())
        return layers.classify(
            x,
            self.num_classes,
            dropout=self.dropout,
            kernel_init=kernel_initializer(self.initializer),
            train=train,
        )

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels from one cell to the next in each stage's map; 4, 8, 16, 32."""
        stem = 1 if self.small_images else 4 if self.stem_pool else 2
        reached, strides = stem, {}
        for place in _places(self.stage_sizes, self.output_stride):
            reached *= place.stride
            strides[place.stage] = reached
        return tuple(strides.values())

    def _block(self, conv: ModuleDef, norm: ModuleDef) -> ModuleDef:
        """The block with all that is the same in every place."""
        return partial(
            {"basic": BasicBlock, "bottleneck": Bottleneck}[self.block],
            stride_in=self.stride_in,
            pooled_shortcut=self.pooled_shortcut,
            dilated_pool=self.dilated_pool,
            groups=self.groups,
            group_width=self.group_width,
            squeeze_excite=self.squeeze_excite,
            bias_1x1=self.bias_1x1,
            gram=self.gram_norm,
            conv=conv,
            norm=norm,
            last_gamma=last_gamma_initializer(self.zero_gamma),
        )


def _run(block: nn.Module, x: jax.Array, train: bool) -> jax.Array:
    return block(x, train=train)


_recomputed = nn.remat(_run, static_argnums=(2,))


class _Place(NamedTuple):
    """Where a block stands, and what follows from it."""

    stage: int
    number: int
    stride: int
    first_dilation: int
    dilation: int


def _places(stage_sizes: Sequence[int], output_stride: int) -> Iterator[_Place]:
    """Every block's place, dilations as in gluon-cv and timm."""
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"output_stride={output_stride}; allowed: 8, 16, 32")
    reached, dilation = 4, 1
    for stage, size in enumerate(stage_sizes):
        before, stride = dilation, 1 if stage == 0 else 2
        if reached * stride > output_stride:
            dilation, stride = dilation * stride, 1
        reached *= stride
        for number in range(size):
            first = number == 0
            yield _Place(
                stage,
                number,
                stride if first else 1,
                before if first else dilation,
                dilation,
            )
