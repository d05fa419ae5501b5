"""What classification asks of a step: its inputs, its loss, its evaluation."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rtj.data.augment import augment, normalize
from rtj.fine_tuning import FineTuning
from rtj.state import TrainState, random_stream
from rtj.step_options import Batch, Metrics, StepOptions
from rtj.tricks.label_smoothing import cross_entropy, smooth_labels
from rtj.tricks.low_precision import Policy, matmul_precision
from rtj.tricks.mixup import lambda_keys, mix


def train_inputs(
    batch: Batch, step: jax.Array, options: StepOptions
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What the network is shown and asked for, all that precedes it in a step.

    Returns:
        images (B, H, W, 3) float32, augmented, normalised and mixed; targets (B, K)
        float32, smoothed and then mixed; labels (B,) int32, of the larger share.
    """
    images = augment(
        batch["image"],
        batch["index"],
        step,
        seed=options.seed,
        copy=batch.get("copy"),
        **options.augment,
    )
    labels = batch["label"]
    targets = smooth_labels(labels, options.num_classes, options.eps, options.form)
    if options.mixing is None:
        return images, targets, labels
    keys = lambda_keys(
        random_stream(options.seed, "mixup"),
        step,
        batch["index"],
        batch.get("copy"),
        options.mixing.per,
    )
    return mix(images, targets, labels, keys, step, options.mixing)


def loss(
    params: Any,
    state: TrainState,
    batch: Batch,
    teacher: Any,
    dropout_key: jax.Array,
    scale: jax.Array,
    model: nn.Module,
    options: StepOptions,
) -> tuple[jax.Array, tuple[Any, Metrics]]:
    """The mean loss times `scale`, new running statistics, and sums over the batch.

    Args:
        params: what is differentiated; the running statistics are `state`'s.
        teacher: see `train_step`.
        scale: of fp16, 1 in other precisions.
    """
    images, targets, labels = train_inputs(batch, state.step, options)
    tuning = options.fine_tuning or FineTuning()
    with tuning.batch_norm(params):
        logits, updates = model.apply(
            {
                "params": tuning.stop_gradients(params),
                "batch_stats": state.batch_stats,
            },
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
    if options.distillation is None:
        losses = cross_entropy(logits, targets)
    else:
        losses = options.distillation.losses(
            logits, targets, images, batch["index"], teacher
        )
    sums = {
        "loss": losses.sum(),
        "top1": (rank_of_label(logits, labels) < 1).sum(dtype=jnp.float32),
    }
    return losses.mean() * scale, (updates.get("batch_stats", {}), sums)


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
