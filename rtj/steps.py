"""The pure train and evaluation steps; `rtj.experiment` jits them over a mesh."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from rtj.data.augment import augment, normalize
from rtj.fine_tuning import FineTuning
from rtj.state import TrainState, random_stream
from rtj.tricks.distillation import Distillation
from rtj.tricks.ema import ema_decay, ema_update
from rtj.tricks.label_smoothing import SmoothingForm, cross_entropy, smooth_labels
from rtj.tricks.low_precision import Policy, matmul_precision, next_loss_scale
from rtj.tricks.mixup import Mixing, lambda_keys, mix

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@dataclass(frozen=True)
class StepOptions:
    """Everything static that a step needs beside the model and the optimizer.

    Attributes:
        num_classes: size of the classifier.
        seed: of augmentation and dropout.
        policy: dtypes and loss scaling.
        accumulate: micro-batches whose gradients are averaged into one update.
        group_size: the batch-norm group; micro-batches are made of whole groups.
        eps, form: label smoothing.
        growth_steps, scale_cap: of fp16's loss scale.
        augment: keyword arguments of `rtj.data.augment.augment`.
        mixing: mixup or CutMix; None trains on the examples as they are.
        distillation: what is learnt from a teacher; None: nothing.
        fine_tuning: what of the network is trained; None: all.
        ema, ema_batch_stats: decay of the average of the weights, and whether it
            covers the running statistics; used where the state has an average.
    """

    num_classes: int
    seed: int
    policy: Policy
    accumulate: int
    group_size: int
    eps: float
    form: SmoothingForm
    growth_steps: int
    scale_cap: float
    augment: dict[str, Any]
    mixing: Mixing | None = None
    distillation: Distillation | None = None
    fine_tuning: FineTuning | None = None
    ema: float = 0.0
    ema_batch_stats: bool = True


def train_step(
    state: TrainState,
    batch: Batch,
    teacher: Any = None,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    options: StepOptions,
) -> tuple[TrainState, Metrics]:
    """One update on a batch of `image` uint8 NHWC, `label` and `index` int32.

    `teacher` holds the arrays of `options.distillation`, None without one.

    A step whose gradients are not finite leaves params, batch_stats and
    opt_state as they were (and halves fp16's loss scale). Metrics are float32
    scalars: loss and top1 (means over the batch), grad_norm, lr, skipped (0 or
    1), and loss_scale in fp16. Of a mixture top1 asks for the label with the larger
    share.
    """
    scale = state.loss_scale.scale if state.loss_scale else jnp.float32(1)
    with matmul_precision(options.policy):
        grads, batch_stats, sums = _gradients(
            state, batch, teacher, scale, model, options
        )
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(grad_norm)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    new = state.replace(
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    new = _with_average(new, options)
    new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
    metrics = {
        "loss": sums["loss"] / batch["label"].shape[0],
        "top1": sums["top1"] / batch["label"].shape[0],
        "grad_norm": grad_norm,
        "lr": schedule(optax.tree.get(state.opt_state, "count")),
        "skipped": 1 - finite.astype(jnp.float32),
    }
    loss_scale = state.loss_scale
    if loss_scale is not None:
        metrics["loss_scale"] = loss_scale.scale
        loss_scale = next_loss_scale(
            loss_scale,
            finite,
            growth_steps=options.growth_steps,
            cap=options.scale_cap,
        )
    return new.replace(step=state.step + 1, loss_scale=loss_scale), metrics


def _with_average(new: TrainState, options: StepOptions) -> TrainState:
    """Moves the average of the weights, if there is one, towards `new`."""
    if new.average is None:
        return new
    decay = ema_decay(options.ema, optax.tree.get(new.opt_state, "count") - 1)
    average = ema_update(new.average, new.weights, decay)
    if not options.ema_batch_stats:
        average["batch_stats"] = new.batch_stats
    return new.replace(average=average)


def _gradients(
    state: TrainState,
    batch: Batch,
    teacher: Any,
    scale: jax.Array,
    model: nn.Module,
    options: StepOptions,
) -> tuple[Any, Any, Metrics]:
    """Mean gradients, new running statistics and summed metrics of a batch.

    Every micro-batch starts from the same running statistics and the results are
    averaged, so that they equal those of the undivided batch.
    """
    loss_and_grad = jax.value_and_grad(_loss, has_aux=True)

    def one(micro: Batch, number: jax.Array) -> tuple[Any, Any, Metrics]:
        key = jax.random.fold_in(random_stream(options.seed, "dropout"), state.step)
        (_, (batch_stats, sums)), grads = loss_and_grad(
            state.params,
            state,
            micro,
            teacher,
            jax.random.fold_in(key, number),
            scale,
            model,
            options,
        )
        return jax.tree.map(lambda g: g / scale, grads), batch_stats, sums

    if options.accumulate == 1:
        return one(batch, jnp.int32(0))
    micros = _micro_batches(batch, options.accumulate, options.group_size)

    def add(total: Any, numbered: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, one(*numbered)), None

    numbers = jnp.arange(options.accumulate)
    shapes = jax.eval_shape(one, *jax.tree.map(lambda x: x[0], (micros, numbers)))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, (micros, numbers))
    grads, batch_stats, sums = total
    mean = jax.tree.map(lambda x: x / options.accumulate, (grads, batch_stats))
    return *mean, sums


def _micro_batches(batch: Batch, count: int, group_size: int) -> Batch:
    """(B, ...) to (count, B / count, ...), each made of whole groups.

    Group j goes to micro-batch j % count: the devices' contiguous shares of the
    batch each hold a share of every micro-batch, so nothing moves between them.
    """

    def divide(x: jax.Array) -> jax.Array:
        groups = x.reshape(-1, count, group_size, *x.shape[1:])
        return groups.swapaxes(0, 1).reshape(count, -1, *x.shape[1:])

    return jax.tree.map(divide, batch)


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


def _loss(
    params: Any,
    state: TrainState,
    batch: Batch,
    teacher: Any,
    dropout_key: jax.Array,
    scale: jax.Array,
    model: nn.Module,
    options: StepOptions,
) -> tuple[jax.Array, tuple[Any, Metrics]]:
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
