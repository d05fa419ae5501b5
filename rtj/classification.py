"""What classification asks of a step: its inputs, its loss, its evaluation."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rtj.data.augment import augment, normalize
from rtj.fine_tuning import FineTuning
from rtj.state import TrainState, random_stream
from rtj.step_options import Batch, Metrics
from rtj.tricks.distillation import Distillation
from rtj.tricks.label_smoothing import SmoothingForm, cross_entropy, smooth_labels
from rtj.tricks.low_precision import Policy, matmul_precision
from rtj.tricks.mixup import Mixing, lambda_keys, mix


@dataclass(frozen=True)
class Classification:
    """How a network learns to classify; a `rtj.step_options.Loss`.

    A batch has `image` uint8 NHWC, `label` and `index` int32, with repetitions `copy`
    int32 too. Reported are `loss` and `top1`; of a mixture top1 asks for the label with
    the larger share.

    Attributes:
        num_classes: size of the classifier.
        seed: of augmentation and mixing.
        eps, form: label smoothing.
        augment: keyword arguments of `rtj.data.augment.augment`.
        mixing: mixup or CutMix; None trains on the examples as they are.
        distillation: what is learnt from a teacher, whose arrays are the first of the
            step's constants; None: nothing.
        tuning: what of the network is trained.
    """

    model: nn.Module
    num_classes: int
    seed: int
    eps: float
    form: SmoothingForm
    augment: dict[str, Any]
    mixing: Mixing | None = None
    distillation: Distillation | None = None
    tuning: FineTuning = field(default_factory=FineTuning)

    def inputs(
        self, batch: Batch, step: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What the network is shown and asked for, all that precedes it in a step.

        Returns:
            images (B, H, W, 3) float32, augmented, normalised and mixed; targets (B, K)
            float32, smoothed and then mixed; labels (B,) int32, of the larger share.
        """
        index, copy, labels = batch["index"], batch.get("copy"), batch["label"]
        images = augment(
            batch["image"], index, step, seed=self.seed, copy=copy, **self.augment
        )
        targets = smooth_labels(labels, self.num_classes, self.eps, self.form)
        if self.mixing is None:
            return images, targets, labels
        key = random_stream(self.seed, "mixup")
        keys = lambda_keys(key, step, index, copy, self.mixing.per)
        return mix(images, targets, labels, keys, step, self.mixing)

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
        images, targets, labels = self.inputs(batch, state.step)
        logits, batch_stats = self.tuning.forward(
            self.model, params, state.batch_stats, dropout_key, images, train=True
        )
        if self.distillation is None:
            losses = cross_entropy(logits, targets)
        else:
            losses = self.distillation.losses(
                logits, targets, images, batch["index"], constants[0]
            )
        sums = {
            "loss": losses.sum(),
            "top1": (rank_of_label(logits, labels) < 1).sum(dtype=jnp.float32),
        }
        return losses.mean() * scale, (batch_stats, sums)


def eval_step(
    variables: dict[str, Any],
    batch: Batch,
    *,
    model: nn.Module,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    policy: Policy,
) -> Metrics:
    """Sums of loss, top1, top5 and count over the rows whose `mask` is True.

    `rows`, int32 (B, 3), holds of each row the example's index, its label and the
    predicted class, or -1 in all three where the mask is False.
    """
    images = normalize(batch["image"], mean=mean, std=std)
    with matmul_precision(policy):
        logits: Any = model.apply(variables, images, train=False)
    mask = batch["mask"]
    labels = jnp.where(mask, batch["label"], 0)
    losses = cross_entropy(logits, jax.nn.one_hot(labels, logits.shape[-1]))
    rank = rank_of_label(logits, labels)

    def total(values: jax.Array) -> jax.Array:
        return jnp.where(mask, values, 0).sum(dtype=jnp.float32)

    rows = jnp.stack([batch["index"], labels, logits.argmax(-1)], -1).astype(jnp.int32)
    return {
        "rows": jnp.where(mask[:, None], rows, -1),
        "loss": total(losses),
        "top1": total(rank < 1),
        "top5": total(rank < 5),
        "examples": total(jnp.ones_like(labels)),
        # Examples that could not be decoded have an index, padding has none.
        "skipped": jnp.sum(~mask & (batch["index"] >= 0), dtype=jnp.float32),
    }


def rank_of_label(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """How many classes stand before the label, int32 (N,); ties go to the lower.

    NaN stands before everything, so a network that gives NaN is never right.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    classes = jnp.arange(logits.shape[-1])
    before = ~(logits <= own) | ((logits == own) & (classes < labels[:, None]))
    return before.sum(axis=-1)
