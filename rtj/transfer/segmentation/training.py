"""What segmentation asks of a step: its loss on a batch, and its evaluation."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from rtj.fine_tuning import FineTuning
from rtj.state import TrainState
from rtj.step_options import Batch, Metrics
from rtj.transfer.canvas import inside_images, normalize_valid
from rtj.transfer.segmentation.augment import augment
from rtj.transfer.segmentation.fcn import FCN
from rtj.transfer.segmentation.loss import (
    AUX_WEIGHT,
    IGNORE_LABEL,
    fcn_loss,
    pixel_cross_entropy,
)
from rtj.transfer.segmentation.mean_iou import confusion_matrix
from rtj.tricks.low_precision import Policy, matmul_precision


@dataclass(frozen=True)
class Segmentation:
    """How an FCN learns; a `rtj.step_options.Loss`.

    A batch has `image` uint8 (B, C, C, 3), `mask` uint8 (B, C, C), `size` int32 (B, 2),
    the height and width of the image at the canvas' upper left, and `index` int32.
    Reported are `loss`, both heads', and `pixel_accuracy` of the main head on the crop.

    Attributes:
        augment: keyword arguments of `rtj.transfer.segmentation.augment.augment`.
        aux_weight: of the auxiliary head's loss.
        tuning: what of the network is trained.
    """

    model: FCN
    augment: dict[str, Any]
    aux_weight: float = AUX_WEIGHT
    tuning: FineTuning = field(default_factory=FineTuning)

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
        images, masks = augment(
            batch["image"],
            batch["mask"],
            batch["size"],
            batch["index"],
            state.step,
            **self.augment,
        )
        logits, batch_stats = self.tuning.forward(
            self.model, params, state.batch_stats, dropout_key, images, train=True
        )
        loss = fcn_loss(logits, masks, aux_weight=self.aux_weight)
        counted = masks != IGNORE_LABEL
        right = counted & (logits.out.argmax(-1) == masks)
        means = {
            "loss": loss,
            "pixel_accuracy": right.sum() / jnp.maximum(counted.sum(), 1),
        }
        # A step divides by the examples, and these are means over pixels already.
        sums = {name: mean * images.shape[0] for name, mean in means.items()}
        return loss * scale, (batch_stats, sums)


def eval_step(
    variables: dict[str, Any],
    batch: Batch,
    *,
    model: FCN,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    policy: Policy,
) -> Metrics:
    """The confusion matrix of a batch of whole images, and the sum of their losses.

    What stands right of and below an image on its canvas is nobody's pixel.

    Returns:
        `confusion` int32 (K, K); `loss`, the sum over images of the mean over an
        image's pixels; `examples` and `skipped` (those that cannot be decoded).
    """
    inside = inside_images(batch["size"], batch["image"].shape[1:3])
    logits = score_pixels(
        variables, batch, model=model, mean=mean, std=std, policy=policy
    )
    masks = jnp.where(inside, batch["mask"], IGNORE_LABEL).astype(jnp.int32)
    losses = jax.vmap(pixel_cross_entropy)(logits[:, None], masks[:, None])
    there, decoded = batch["index"] >= 0, batch["size"].min(axis=1) > 0
    return {
        "confusion": confusion_matrix(logits.argmax(-1), masks, logits.shape[-1]),
        "loss": jnp.where(there, losses, 0).sum(),
        "examples": (there & decoded).sum(dtype=jnp.int32),
        "skipped": (there & ~decoded).sum(dtype=jnp.int32),
    }


def score_pixels(
    variables: dict[str, Any],
    batch: Batch,
    *,
    model: FCN,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    policy: Policy,
) -> jax.Array:
    """The main head's class scores (B, H, W, K) float32 of images on their canvases.

    What stands right of and below an image is the mean colour to the network.
    """
    images = normalize_valid(batch["image"], batch["size"], mean, std)
    with matmul_precision(policy):
        logits: Any = model.apply(variables, images, train=False)
    return logits.out
