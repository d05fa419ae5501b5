"""JAX programs as contestants of `rtj.bench step`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rtj.bench.step_work import CLASSES, Running, Work
from rtj.tricks.low_precision import POLICIES, matmul_precision

_SEED = 0


def labels(work: Work) -> np.ndarray:
    """Random classes, int32 (batch,)."""
    return np.random.default_rng(_SEED).integers(0, CLASSES, work.batch, np.int32)


def images(work: Work) -> jax.Array:
    """Normalised images of noise, float32 (batch, size, size, 3), on the device."""
    shape = (work.batch, work.size, work.size, 3)
    return jax.random.normal(jax.random.key(_SEED), shape)


def training(
    step: jax.stages.Wrapped, state: Any, batch: Any, facts: dict[str, Any]
) -> Running:
    """`step(state, batch) -> (state, metrics)` over and over; metrics have `loss`."""
    compiled = step.lower(state, batch).compile()
    metrics: dict[str, jax.Array] = {}

    def run() -> None:
        nonlocal state, metrics
        state, metrics = compiled(state, batch)

    def finish() -> float:
        jax.block_until_ready(state)
        return float(metrics["loss"])

    return Running(run, finish, facts, _bytes_accessed(compiled))


def inference(
    model: nn.Module,
    variables: Any,
    inputs: jax.Array,
    work: Work,
    facts: dict[str, Any],
) -> Running:
    """The argmax of the logits of a network in evaluation, over and over."""

    def classify(variables: Any, inputs: jax.Array) -> jax.Array:
        logits: Any = model.apply(variables, inputs, train=False)
        return logits.argmax(-1)

    with matmul_precision(POLICIES[work.precision]):
        compiled = jax.jit(classify).lower(variables, inputs).compile()
    classes = jnp.full(work.batch, -1)

    def run() -> None:
        nonlocal classes
        classes = compiled(variables, inputs)

    def finish() -> float:
        return float(classes.mean())

    return Running(run, finish, facts, _bytes_accessed(compiled))


def _bytes_accessed(compiled: jax.stages.Compiled) -> float | None:
    cost = compiled.cost_analysis()
    return cost.get("bytes accessed") if isinstance(cost, dict) else None
