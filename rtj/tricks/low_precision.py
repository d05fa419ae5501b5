"""Low-precision training (paper section 3.2).

Activations, their gradients and the convolutions run in 16 bits; the parameters
that the optimizer updates, batch norm's statistics, the softmax and the loss stay
float32. The paper uses fp16 on V100; bf16 has float32's range and needs no loss
scale, so it is the default of the `low_precision` row, and fp16 is there by name.

fp16 multiplies the loss by a scale before the backward pass, so that small
gradients do not vanish, and divides the gradients by it. When a gradient
overflows, the step is skipped and the scale halved; after `growth_steps` good
steps it doubles, up to a cap: Flax's own `DynamicScale` has none and can end at
infinity (google/flax#2547). The paper mentions such a scale without a value, and
gluon-cv has only the implicit one of a summed loss.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import DTypeLike

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Policy:
    """What a precision's name stands for.

    Attributes:
        dtype: dtype of activations and convolutions.
        matmul_precision: precision of float32 products on TPU and GPU, where the
            default would round their inputs to bf16 or tf32; None is the default.
        scales_loss: whether the step carries a `LossScale`.
    """

    dtype: DTypeLike
    matmul_precision: str | None
    scales_loss: bool


POLICIES: dict[str, Policy] = {
    "fp32": Policy(jnp.float32, "float32", scales_loss=False),
    "bf16": Policy(jnp.bfloat16, None, scales_loss=False),
    "fp16": Policy(jnp.float16, None, scales_loss=True),
}


def matmul_precision(policy: Policy) -> AbstractContextManager[None]:
    """The context in which a step under `policy` is traced."""
    if policy.matmul_precision is None:
        return nullcontext()
    return jax.default_matmul_precision(policy.matmul_precision)


class LossScale(struct.PyTreeNode):
    """The scale (float32 scalar) and the good steps since it last changed (int32)."""

    scale: jax.Array
    good_steps: jax.Array


def initial_loss_scale(scale: float) -> LossScale:
    """A loss scale at the start of training."""
    return LossScale(jnp.float32(scale), jnp.int32(0))


def next_loss_scale(
    state: LossScale, finite: jax.Array, *, growth_steps: int, cap: float
) -> LossScale:
    """Halve on overflow (not below 1), double after `growth_steps` good steps."""
    good_steps = jnp.where(finite, state.good_steps + 1, 0)
    grow = good_steps >= growth_steps
    grown = jnp.where(grow, jnp.minimum(state.scale * 2, cap), state.scale)
    scale = jnp.where(finite, grown, jnp.maximum(state.scale / 2, 1))
    return LossScale(scale, jnp.where(grow, 0, good_steps))
