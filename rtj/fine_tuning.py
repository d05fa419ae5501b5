"""Fine-tuning: frozen stages, frozen batch norm, a learning rate for each stage.

    rate of stage s = factor(s) * schedule,   factor(s) = decay^(last - s),

s = 0 the stem, `last` the last stage; the classifier has a factor of its own, and
frozen stages have 0. Factors scale the update, so they mean the same for both forms of
Nesterov momentum, and scale weight decay as well, as a learning rate does.

In the wild: gluon-cv's detectors freeze the stem, stage 1 and all of batch norm
(`use_global_stats`), its segmentation networks give the heads 10 times the rate. A
frozen stage here also keeps its running statistics, and none of its gradients are
computed; with PyTorch's `requires_grad=False` alone, statistics still move.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from rtj.models.batch_norm import BatchNorm
from rtj.models.stages import count_stages, stage_of


@dataclass(frozen=True)
class FineTuning:
    """What of a network is trained, and how fast.

    Attributes:
        frozen: this many of stem, stage 1, stage 2, ... stay as they are.
        freeze_batch_norm: all of batch norm uses its running statistics, which stay.
        stage_decay: the factor between a stage's rate and the next one's, in (0, 1].
        head_factor: of the rate of the classifier, or of all heads on a backbone.
    """

    frozen: int = 0
    freeze_batch_norm: bool = False
    stage_decay: float = 1.0
    head_factor: float = 1.0

    @property
    def scales(self) -> bool:
        """Whether any rate differs from the schedule's."""
        return self.frozen > 0 or self.stage_decay != 1 or self.head_factor != 1

    def factors(self, params: dict[str, Any]) -> Any:
        """The factor of each parameter's learning rate, in `params`' structure."""
        stages = count_stages(params)

        def factor(path: tuple[str, ...]) -> float:
            stage = stage_of(path, stages)
            if stage < self.frozen:
                return 0.0
            if stage > stages:
                return self.head_factor
            return self.stage_decay ** (stages - stage)

        return unflatten_dict({path: factor(path) for path in flatten_dict(params)})

    def stop_gradients(self, params: dict[str, Any]) -> dict[str, Any]:
        """`params` through which no gradient reaches the frozen stages."""
        stages = count_stages(params)
        return unflatten_dict(
            {
                path: jax.lax.stop_gradient(leaf)
                if stage_of(path, stages) < self.frozen
                else leaf
                for path, leaf in flatten_dict(params).items()
            }
        )

    def forward(
        self,
        model: nn.Module,
        params: dict[str, Any],
        batch_stats: Any,
        dropout_key: jax.Array,
        *inputs: Any,
        **options: Any,
    ) -> tuple[Any, Any]:
        """`model.apply` in training: its outputs and the new running statistics.

        Args:
            params: what is differentiated.
            inputs, options: of `apply`, after the variables.
        """
        variables = {"params": self.stop_gradients(params), "batch_stats": batch_stats}
        with self.batch_norm(params):
            outputs, updates = model.apply(
                variables,
                *inputs,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
                **options,
            )
        return outputs, updates.get("batch_stats", {})

    def batch_norm(self, params: dict[str, Any]) -> AbstractContextManager[Any]:
        """Inside it `model.apply(..., train=True)` leaves frozen statistics alone."""
        if not self.freeze_batch_norm and not self.frozen:
            return nullcontext()
        stages = count_stages(params)

        def intercept(
            call: Callable[..., Any],
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
            context: nn.module.InterceptorContext,
        ) -> Any:
            module = context.module
            if isinstance(module, BatchNorm) and (
                self.freeze_batch_norm or stage_of(module.path, stages) < self.frozen
            ):
                kwargs = kwargs | {"train": False}
            return call(*args, **kwargs)

        return nn.intercept_methods(intercept)


def scale_by_stage(tuning: FineTuning) -> optax.GradientTransformation:
    """Scales updates by `tuning.factors`; the last of a chain."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        factors = tuning.factors(updates)
        return jax.tree.map(lambda u, f: f * u, updates, factors), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)
