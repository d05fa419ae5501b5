"""Faster R-CNN on a ResNet (paper section 6.1; Ren et al. 2015, arXiv 1506.01497).

| neck | maps | features of an RoI |
|---|---|---|
| `c4` | stage 3, stride 16 | ROIAlign 14x14, stage 4, global average |
| `fpn` | P2 to P6, strides 4 to 64 | ROIAlign 7x7, two dense layers with ReLU |

`c4` is gluon-cv's `faster_rcnn_resnet50_v1b_voc`; `fpn` its `faster_rcnn_fpn_*` and
torchvision's `fasterrcnn_resnet50_fpn`. Both end in one dense layer for the classes,
which starts from N(0, 0.01), and one for a box of each class, from N(0, 0.001).

Strides are those of the backbone: with `small_images` they are a quarter, and so are
the RoIs that belong to each level of a pyramid.

In the wild: torchvision's C4 and Detectron's put the same stages in the same places,
with a frozen affine layer in place of batch norm.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rtj.errors import ConfigError, unknown
from rtj.models import create_model, list_models
from rtj.models.registry import model_options
from rtj.models.resnet import ResNet
from rtj.transfer.detection.anchors import C4_SIZES, FPN_SIZES, RATIOS, map_anchors
from rtj.transfer.detection.fpn import FeaturePyramid, pyramid_roi_align
from rtj.transfer.detection.roi_align import roi_align
from rtj.transfer.detection.rpn import RegionProposalNetwork, RPNOutputs

Neck = Literal["c4", "fpn"]


class Layout(NamedTuple):
    """What a neck's numbers are where none are given."""

    anchor_sizes: tuple[float, ...]
    rpn_channels: int
    roi_size: int


LAYOUTS: dict[str, Layout] = {
    "c4": Layout(C4_SIZES, 1024, 14),
    "fpn": Layout(FPN_SIZES, 256, 7),
}


class HeadOutputs(NamedTuple):
    """Of R boxes an image.

    Attributes:
        logits: (B, R, K + 1) float32, background first.
        offsets: (B, R, K, 4) float32, a box for each class; see `boxes.decode`.
    """

    logits: jax.Array
    offsets: jax.Array


class BoxHead(nn.Module):
    """Hidden dense layers `fc6`, `fc7`, ... and the two that decide, in float32."""

    num_classes: int
    hidden: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> HeadOutputs:
        """Features (B, R, F) of RoIs."""
        small = nn.initializers.normal(0.01)
        for number, width in enumerate(self.hidden, start=6):
            x = nn.relu(nn.Dense(width, kernel_init=small, name=f"fc{number}")(x))
        logits = nn.Dense(self.num_classes + 1, kernel_init=small, name="cls_score")(x)
        offsets = nn.Dense(
            4 * self.num_classes,
            kernel_init=nn.initializers.normal(0.001),
            name="bbox_pred",
        )(x)
        return HeadOutputs(logits, offsets.reshape(*x.shape[:2], -1, 4))


class FasterRCNN(nn.Module):
    """The network in its steps; see `create_faster_rcnn`.

    Between `propose` and `head` stands what has no parameters: proposals, and in
    training their sample. A function of the module and its inputs calls them in order:
    `model.apply(variables, images, method=function)`.

    Attributes:
        backbone: its `dtype` holds for all convolutions. Its parameters are those of
            the classifier less `fc`, under the name `backbone`; the others' names are
            `rpn`, `head` and, with a pyramid, `fpn`.
        num_classes: without background.
        neck: see above.
        anchor_sizes: of every place with `c4`, of every level with `fpn`.
        rpn_channels: of the region proposal network.
        roi_size: bins a side of ROIAlign.
        fpn_channels, fc: of the pyramid and its head's two hidden layers.
    """

    backbone: ResNet
    num_classes: int
    neck: Neck
    anchor_sizes: Sequence[float]
    rpn_channels: int
    roi_size: int
    fpn_channels: int
    fc: int

    def setup(self) -> None:
        dtype, pyramid = self.backbone.dtype, self.neck == "fpn"
        sizes = 1 if pyramid else len(self.anchor_sizes)
        self.rpn = RegionProposalNetwork(
            self.rpn_channels, len(RATIOS) * sizes, dtype=dtype
        )
        if pyramid:
            self.fpn = FeaturePyramid(self.fpn_channels, dtype=dtype)
        self.box_head = BoxHead(
            self.num_classes, (self.fc, self.fc) if pyramid else (), name="head"
        )

    def __call__(
        self, images: jax.Array, *, train: bool = False
    ) -> tuple[RPNOutputs, HeadOutputs]:
        """Every layer once, the head on the whole image: for `init` and for summaries.

        Args:
            images: (B, H, W, 3), normalised, any float dtype.
            train: pass `mutable=["batch_stats"]` to `apply` if True.
        """
        maps = self.features(images, train=train)
        height, width = images.shape[1:3]
        whole = jnp.asarray([0, 0, width, height], jnp.float32)
        boxes = jnp.broadcast_to(whole, (len(images), 1, 4))
        return self.propose(maps), self.head(maps, boxes, train=train)

    def features(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Images (B, H, W, 3) to maps (B, h, w, C), the largest first."""
        stop = 3 if self.neck == "c4" else 4
        stages = self.backbone(images, train=train, stages=True, stop=stop)
        stages = cast(list[jax.Array], stages)
        return stages[-1:] if self.neck == "c4" else self.fpn(stages)

    def propose(self, maps: Sequence[jax.Array]) -> RPNOutputs:
        """Scores and offsets of all anchors of all maps."""
        return self.rpn(maps)

    def head(
        self, maps: Sequence[jax.Array], boxes: jax.Array, *, train: bool
    ) -> HeadOutputs:
        """Classes and boxes for RoIs (B, R, 4) float32, in pixels of the images.

        In training, batch norm of stage 4 sees all RoIs of its group of images.
        """
        if self.neck == "c4":
            return self.box_head(self._stage4_of_rois(maps[0], boxes, train=train))

        def read(levels: list[jax.Array], boxes: jax.Array) -> jax.Array:
            return pyramid_roi_align(
                levels, boxes, self.map_strides[:-1], self.roi_size
            )

        x = jax.vmap(read)(list(maps[:-1]), boxes)
        return self.box_head(x.reshape(*boxes.shape[:2], -1))

    @property
    def map_strides(self) -> tuple[int, ...]:
        """Pixels from one cell to the next in each of `features`' maps."""
        strides = self.backbone.strides
        return strides[2:3] if self.neck == "c4" else (*strides, 2 * strides[-1])

    def anchors(self, maps: Sequence[jax.Array]) -> list[np.ndarray]:
        """(N, 4) float32 for each of `features`' maps, in the order of `propose`."""
        if self.neck == "c4":
            sizes: list[Sequence[float]] = [self.anchor_sizes]
        else:
            sizes = [(size,) for size in self.anchor_sizes]
        return [
            map_anchors(x.shape[1], x.shape[2], stride, size)
            for x, stride, size in zip(maps, self.map_strides, sizes, strict=True)
        ]

    def _stage4_of_rois(
        self, features: jax.Array, boxes: jax.Array, *, train: bool
    ) -> jax.Array:
        """(B, R, C) float32."""
        (stride,) = self.map_strides

        def read(features: jax.Array, boxes: jax.Array) -> jax.Array:
            return roi_align(
                features, boxes, output_size=self.roi_size, spatial_scale=1 / stride
            )

        rois = jax.vmap(read)(features, boxes)
        (x,) = self.backbone(rois, train=train, stages=True, start=3)
        return x.mean(axis=(2, 3), dtype=jnp.promote_types(jnp.float32, x.dtype))


def create_faster_rcnn(
    backbone: str,
    num_classes: int,
    *,
    neck: Neck = "c4",
    anchor_sizes: Sequence[float] = (),
    rpn_channels: int = 0,
    roi_size: int = 0,
    fpn_channels: int = 256,
    fc: int = 1024,
    **options: Any,
) -> FasterRCNN:
    """Faster R-CNN on the ResNet called `backbone` in the registry.

    Args:
        num_classes: without background.
        neck: `c4` or `fpn`, see above.
        anchor_sizes: sides of the anchors at ratio 1, in pixels; with `fpn` one for
            each of five levels. Empty: 32, 64, 128, 256 and 512.
        rpn_channels: 0: 1024 with `c4`, 256 with `fpn`.
        roi_size: 0: 14 with `c4`, 7 with `fpn`.
        fpn_channels, fc: used with `fpn` alone.
        options: of `create_model`.

    Raises:
        ConfigError: an unknown network, neck or option, a network that is no ResNet, or
            a wrong number of anchor sizes.
    """
    if neck not in LAYOUTS:
        raise unknown("neck", neck, LAYOUTS)
    if "output_stride" not in model_options(backbone):
        allowed = [n for n in list_models() if "output_stride" in model_options(n)]
        raise ConfigError(
            f"backbone={backbone!r} is no ResNet; allowed: {', '.join(allowed)}"
        )
    layout = LAYOUTS[neck]
    sizes = tuple(anchor_sizes) or layout.anchor_sizes
    if neck == "fpn" and len(sizes) != len(FPN_SIZES):
        raise ConfigError(
            f"anchor_sizes={sizes}; allowed with neck='fpn': {len(FPN_SIZES)} sizes, "
            "one for each level"
        )
    network = create_model(backbone, **options)
    assert isinstance(network, ResNet)
    return FasterRCNN(
        network,
        num_classes,
        neck=neck,
        anchor_sizes=sizes,
        rpn_channels=rpn_channels or layout.rpn_channels,
        roi_size=roi_size or layout.roi_size,
        fpn_channels=fpn_channels,
        fc=fc,
    )
