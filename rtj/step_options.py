"""Everything static that a train step needs beside its loss and its optimizer."""

from dataclasses import dataclass
from typing import Any, Protocol

import jax

from rtj.state import TrainState
from rtj.tricks.low_precision import Policy

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@dataclass(frozen=True)
class StepOptions:
    """What a step is made with, whatever it learns.

    Attributes:
        seed: of dropout.
        policy: dtypes and loss scaling.
        accumulate: micro-batches whose gradients are averaged into one update.
        group_size: the batch-norm group; micro-batches are made of whole groups.
        growth_steps, scale_cap: of fp16's loss scale.
        ema, ema_batch_stats: decay of the average of the weights, and whether it
            covers the running statistics; used where the state has an average.
    """

    seed: int
    policy: Policy
    accumulate: int
    group_size: int
    growth_steps: int
    scale_cap: float
    ema: float = 0.0
    ema_batch_stats: bool = True


class Loss(Protocol):
    """What a run learns."""

    def __call__(
        self,
        params: Any,
        state: TrainState,
        batch: Batch,
        constants: tuple[Any, ...],
        dropout_key: jax.Array,
        scale: jax.Array,
    ) -> tuple[jax.Array, tuple[Any, Metrics]]:
        """The mean loss times `scale`, new running statistics, and sums over the batch.

        Args:
            params: what is differentiated; the running statistics are `state`'s.
            constants: arrays that do not change, a teacher's for example.
            scale: of fp16, 1 in other precisions.

        Returns:
            Also sums of what is reported, `loss` among them; a step divides them by
            the examples.
        """
