"""What a detector learns: Faster R-CNN's four losses, approximate joint training.

Ren et al., section 3.2: one network, all four losses at once, their sum; proposals are
taken as they are. The recipe is gluon-cv's for Pascal VOC, see `DetectionOptions`.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rtj.fine_tuning import FineTuning
from rtj.state import TrainState, random_stream
from rtj.step_options import Batch, Metrics
from rtj.transfer.canvas import normalize_valid
from rtj.transfer.detection.augment import mirror_boxes, mirror_image
from rtj.transfer.detection.boxes import clip, has_area
from rtj.transfer.detection.faster_rcnn import FasterRCNN, HeadOutputs
from rtj.transfer.detection.losses import head_losses, rpn_losses
from rtj.transfer.detection.matching import Truth
from rtj.transfer.detection.options import DetectionOptions
from rtj.transfer.detection.per_image import per_image
from rtj.transfer.detection.rpn import RPNOutputs
from rtj.transfer.detection.sampling import example_keys
from rtj.transfer.detection.targets import (
    AnchorTargets,
    RoITargets,
    anchor_targets,
    roi_targets,
)


class Forward(NamedTuple):
    """The network's outputs and what they should be, rows a batch's images."""

    rpn: RPNOutputs
    head: HeadOutputs
    anchors: AnchorTargets
    rois: RoITargets


@dataclass(frozen=True)
class DetectionLoss:
    """How a network learns to detect; a `rtj.step_options.Loss`.

    A batch has, for each image, `image` uint8 (H, W, 3), padded below and on the right;
    `size` int32 (2,), its height and width without that; `boxes` float32 (G, 4) in its
    pixels, `labels` int32 (G,) from 0, `objects` bool (G,), False where there is none,
    `difficult` bool (G,); and `index` int32. Boxes are cut at the image's border, and
    one that has no area then is no object.

    Reported are, as sums over images, `loss`, its parts `rpn_cls`, `rpn_box`,
    `head_cls` and `head_box`, and `head_acc`, the share of an image's RoIs that get
    their class, or background, right.

    Attributes:
        seed: of mirroring and of the samples.
        mean, std: per channel, 0-255 scale.
        flip: mirror each image with probability 1/2.
        tuning: what of the network is trained.
        mesh: over which the batch is split, see `per_image`.
    """

    model: FasterRCNN
    seed: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    options: DetectionOptions = field(default_factory=DetectionOptions)
    flip: bool = True
    tuning: FineTuning = field(default_factory=FineTuning)
    mesh: Mesh | None = None

    def inputs(self, batch: Batch, keys: jax.Array) -> tuple[jax.Array, Truth]:
        """Normalised images (B, H, W, 3) float32 and their objects, (B, G, ...).

        Args:
            keys: (B,), one an image.
        """

        def one(
            image: jax.Array, size: jax.Array, boxes: jax.Array, key: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            boxes = clip(boxes, size[0], size[1])
            if not self.flip:
                return image, boxes
            turn = jax.random.bernoulli(key)
            return (
                jnp.where(turn, mirror_image(image, size[1]), image),
                jnp.where(turn, mirror_boxes(boxes, size[1]), boxes),
            )

        sizes, difficult = batch["size"], batch["difficult"]
        images, boxes = jax.vmap(one)(batch["image"], sizes, batch["boxes"], keys)
        there = batch["objects"] & has_area(boxes)
        ignored = jnp.zeros_like(there) if self.options.train_difficult else difficult
        return (
            normalize_valid(images, sizes, self.mean, self.std),
            Truth(boxes, batch["labels"], there, ignored),
        )

    def forward(
        self,
        model: FasterRCNN,
        images: jax.Array,
        sizes: jax.Array,
        truth: Truth,
        keys: jax.Array,
    ) -> Forward:
        """The network on its own proposals; a method for `model.apply`."""
        maps = model.features(images, train=True)
        outputs, anchors = model.propose(maps), model.anchors(maps)

        def targets(
            outputs: RPNOutputs, size: jax.Array, truth: Truth, key: jax.Array
        ) -> tuple[AnchorTargets, RoITargets]:
            first, second = jax.random.split(key)
            return (
                anchor_targets(anchors, size, truth, first, self.options),
                roi_targets(outputs, anchors, size, truth, second, self.options),
            )

        wanted = per_image(targets, self.mesh)(
            jax.lax.stop_gradient(outputs), sizes, truth, keys
        )
        head = model.head(maps, wanted[1].boxes, train=True)
        return Forward(outputs, head, *wanted)

    def __call__(
        self,
        params: Any,
        state: TrainState,
        batch: Batch,
        constants: tuple[Any, ...],
        dropout_key: jax.Array,
        scale: jax.Array,
    ) -> tuple[jax.Array, tuple[Any, Metrics]]:
        """See `rtj.step_options.Loss`."""
        run = random_stream(self.seed, "detection")
        keys = jax.vmap(jax.random.split)(example_keys(run, state.step, batch["index"]))
        images, truth = self.inputs(batch, keys[:, 0])
        outputs, batch_stats = self.tuning.forward(
            self.model,
            params,
            state.batch_stats,
            dropout_key,
            images,
            batch["size"],
            truth,
            keys[:, 1],
            method=self.forward,
        )
        parts = jax.vmap(image_losses)(outputs)
        losses = jnp.stack([parts[name] for name in LOSSES]).sum(axis=0)
        parts["loss"] = losses
        sums = {name: values.sum() for name, values in parts.items()}
        return losses.mean() * scale, (batch_stats, sums)


LOSSES = ("rpn_cls", "rpn_box", "head_cls", "head_box")


def image_losses(image: Forward) -> Metrics:
    """Float32 scalars of one image: the four losses and `head_acc`."""
    logits, offsets = (jnp.concatenate(part) for part in image.rpn)
    anchors, rois = image.anchors, image.rois
    rpn = rpn_losses(
        logits[anchors.places],
        offsets[anchors.places],
        anchors.offsets,
        anchors.positive,
        anchors.mask,
    )
    head = head_losses(*image.head, rois.offsets, rois.labels, rois.mask)
    right = (image.head.logits.argmax(axis=-1) == rois.labels) & rois.mask
    accuracy = right.sum() / jnp.maximum(rois.mask.sum(), 1)
    return dict(zip((*LOSSES, "head_acc"), (*rpn, *head, accuracy), strict=True))
