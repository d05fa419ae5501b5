"""From images to detections: proposals, classes, boxes, suppression, the best of all.

gluon-cv's order: a box for every class of every proposal, scores below a threshold
dropped, non-maximum suppression of each class for itself, the best of all classes.

In the wild: gluon-cv looks at the 400 best boxes of a class before suppression, and
torchvision drops boxes of less than 0.01 pixels; here all boxes are looked at.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rtj.step_options import Batch
from rtj.transfer.canvas import normalize_valid
from rtj.transfer.detection.boxes import HEAD_WEIGHTS, clip, decode, has_area
from rtj.transfer.detection.faster_rcnn import FasterRCNN, HeadOutputs
from rtj.transfer.detection.nms import nms
from rtj.transfer.detection.options import DetectionOptions
from rtj.transfer.detection.per_image import per_image
from rtj.transfer.detection.proposals import Proposals
from rtj.transfer.detection.rpn import RPNOutputs, propose_inside
from rtj.tricks.low_precision import Policy, matmul_precision

Detected = dict[str, jax.Array]


def detect(
    variables: dict[str, Any],
    batch: Batch,
    *,
    model: FasterRCNN,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    policy: Policy,
    options: DetectionOptions,
    mesh: Mesh | None = None,
) -> Detected:
    """What is seen in a batch of images, D = `options.max_detections` an image.

    Args:
        batch: `image` uint8 (B, H, W, 3), padded below and on the right; `size` int32
            (B, 2), height and width without that; `scale` float32 (B, 2), that size
            over the original one; `index` int32 (B,); `valid` bool (B,), False for
            rows without an image.
        mean, std: per channel, 0-255 scale.
        mesh: over which the batch is split, see `per_image`.

    Returns:
        `boxes` (B, D, 4) float32 in pixels of the original image, best first; `scores`
        (B, D) float32; `labels` (B, D) int32; `mask` (B, D) bool, True for the first so
        many, and where it is False the others are 0; `index` and `valid`, the batch's.
    """
    images = normalize_valid(batch["image"], batch["size"], mean, std)
    method = partial(_forward, options=options, mesh=mesh)
    with matmul_precision(policy):
        proposals, head = model.apply(variables, images, batch["size"], method=method)
    choose = per_image(partial(detections, options=options), mesh)
    found = choose(proposals, head, batch["size"], batch["scale"])
    mask = found["mask"] & batch["valid"][:, None]
    found = {
        name: jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 2)), x, 0)
        for name, x in found.items()
    }
    return found | {"mask": mask, "index": batch["index"], "valid": batch["valid"]}


def _forward(
    model: FasterRCNN,
    images: jax.Array,
    sizes: jax.Array,
    *,
    options: DetectionOptions,
    mesh: Mesh | None,
) -> tuple[Proposals, HeadOutputs]:
    """The network on its own proposals; a method for `model.apply`."""
    maps = model.features(images, train=False)
    anchors = model.anchors(maps)

    def propose(outputs: RPNOutputs, size: jax.Array) -> Proposals:
        return propose_inside(*outputs, anchors, size, options.test_proposals)

    proposals = per_image(propose, mesh)(model.propose(maps), sizes)
    return proposals, model.head(maps, proposals.boxes, train=False)


def detections(
    proposals: Proposals,
    head: HeadOutputs,
    size: jax.Array,
    scale: jax.Array,
    *,
    options: DetectionOptions,
) -> Detected:
    """One image's `boxes`, `scores`, `labels` and `mask`, see `detect`.

    Args:
        proposals: R of them.
        head: (R, K + 1) logits and (R, K, 4) offsets.
        size, scale: (2,), see `detect`.
    """
    classes = head.offsets.shape[1]
    scores = jax.nn.softmax(head.logits, axis=-1)[:, 1:]
    boxes = decode(head.offsets, proposals.boxes[:, None], HEAD_WEIGHTS)
    boxes = clip(boxes, size[0], size[1]).reshape(-1, 4)
    there = proposals.mask[:, None] & (scores >= options.score_threshold)
    labels = jnp.broadcast_to(jnp.arange(classes), scores.shape).reshape(-1)
    kept = nms(
        boxes,
        scores.reshape(-1),
        there.reshape(-1) & has_area(boxes),
        threshold=options.nms,
        outputs=options.max_detections,
        groups=labels,
    )
    vertical, horizontal = scale
    original = boxes[kept.places] / jnp.stack(
        [horizontal, vertical, horizontal, vertical]
    )
    return {
        "boxes": original,
        "scores": scores.reshape(-1)[kept.places],
        "labels": labels[kept.places],
        "mask": kept.mask,
    }
