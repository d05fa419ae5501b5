"""The pure train step; `rtj.experiment` jits it over a mesh."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from rtj.state import TrainState, random_stream
from rtj.step_options import Batch, Loss, Metrics, StepOptions
from rtj.tricks.ema import ema_decay, ema_update
from rtj.tricks.low_precision import matmul_precision, next_loss_scale


def train_step(
    state: TrainState,
    batch: Batch,
    *constants: Any,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    options: StepOptions,
) -> tuple[TrainState, Metrics]:
    """One update on a batch of `loss`, whose every array has a row an example.

    A step whose gradients or loss are not finite leaves params, batch_stats and
    opt_state as they were (and halves fp16's loss scale). Metrics are float32
    scalars: the loss's (means over the batch), grad_norm, lr, skipped (0 or 1), and
    loss_scale in fp16.
    """
    scale = state.loss_scale.scale if state.loss_scale else jnp.float32(1)
    with matmul_precision(options.policy):
        grads, batch_stats, sums = _gradients(
            state, batch, constants, scale, loss, options
        )
    means = {name: total / batch["index"].shape[0] for name, total in sums.items()}
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(grad_norm) & jnp.isfinite(means["loss"])
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    new = state.replace(
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    new = _with_average(new, options)
    new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
    metrics = {
        **means,
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
    constants: tuple[Any, ...],
    scale: jax.Array,
    loss: Loss,
    options: StepOptions,
) -> tuple[Any, Any, Metrics]:
    """Mean gradients, new running statistics and summed metrics of a batch.

    Every micro-batch starts from the same running statistics and the results are
    averaged, so that they equal those of the undivided batch.
    """
    loss_and_grad = jax.value_and_grad(loss, has_aux=True)

    def one(micro: Batch, number: jax.Array) -> tuple[Any, Any, Metrics]:
        key = jax.random.fold_in(random_stream(options.seed, "dropout"), state.step)
        (_, (batch_stats, sums)), grads = loss_and_grad(
            state.params,
            state,
            micro,
            constants,
            jax.random.fold_in(key, number),
            scale,
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
