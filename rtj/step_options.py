"""Everything static that the train step needs beside the model and the optimizer."""

from dataclasses import dataclass
from typing import Any

import jax

from rtj.fine_tuning import FineTuning
from rtj.tricks.distillation import Distillation
from rtj.tricks.label_smoothing import SmoothingForm
from rtj.tricks.low_precision import Policy
from rtj.tricks.mixup import Mixing

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@dataclass(frozen=True)
class StepOptions:
    """What a step is made with.

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
