# Copyright 2024 The Flax Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The network and the train step of Flax's `examples/imagenet`, which no wheel has.

Abridged from `models.py` and `train.py` of google/flax at 18f8f31 (July 2026). Changed:
one device and `jax.jit` in place of `jax.pmap`, so the `pmean`s, there the identity,
are gone; the precision's dtype is an argument (the example takes bfloat16 on TPUs and
float16 with a dynamic loss scale on GPUs); float32 is not rounded to tf32; and the
state is given away, which saves the memory of a second one.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training import common_utils, train_state
from flax.training.dynamic_scale import DynamicScale
from jax.typing import DTypeLike

from rtj.bench import step_jax
from rtj.bench.step_work import CLASSES, Running, Work
from rtj.tricks.low_precision import POLICIES, matmul_precision

# The bottleneck networks by rtj's names; 14 and 26 are not the example's, but short.
STAGE_SIZES: dict[str, tuple[int, ...]] = {
    "resnet14b": (1, 1, 1, 1),
    "resnet26b": (2, 2, 2, 2),
    "resnet50b": (3, 4, 6, 3),
    "resnet101b": (3, 4, 23, 3),
    "resnet152b": (3, 8, 36, 3),
    "resnet200b": (3, 24, 36, 3),
}
_WEIGHT_DECAY, _MOMENTUM = 0.0001, 0.9
_BASE_RATE, _EPOCHS, _WARMUP_EPOCHS, _IMAGES = 0.1, 100, 5, 1_281_167


class Bottleneck(nn.Module):
    """`BottleneckResNetBlock` of the example."""

    filters: int
    conv: Any
    norm: Any
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        residual = x
        y = self.conv(self.filters, (1, 1))(x)
        y = self.norm()(y)
        y = nn.relu(y)
        y = self.conv(self.filters, (3, 3), self.strides)(y)
        y = self.norm()(y)
        y = nn.relu(y)
        y = self.conv(self.filters * 4, (1, 1))(y)
        y = self.norm(scale_init=nn.initializers.zeros_init())(y)
        if residual.shape != y.shape:
            residual = self.conv(
                self.filters * 4, (1, 1), self.strides, name="conv_proj"
            )(residual)
            residual = self.norm(name="norm_proj")(residual)
        return nn.relu(residual + y)


class ResNet(nn.Module):
    """`ResNet` of the example: version 1.5, with a stride in the 3x3 convolution."""

    stage_sizes: Sequence[int]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        conv = partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
        )
        x = conv(64, (7, 7), (2, 2), padding=[(3, 3), (3, 3)], name="conv_init")(x)
        x = norm(name="bn_init")(x)
        x = nn.relu(x)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for i, blocks in enumerate(self.stage_sizes):
            for j in range(blocks):
                strides = (2, 2) if i > 0 and j == 0 else (1, 1)
                x = Bottleneck(64 * 2**i, conv=conv, norm=norm, strides=strides)(x)
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dense(CLASSES, dtype=self.dtype)(x)
        return jnp.asarray(x, self.dtype)


class TrainState(train_state.TrainState):
    """The example's: parameters, momentum, statistics and, in float16, a scale."""

    batch_stats: Any
    dynamic_scale: DynamicScale | None


def cross_entropy_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy of (B, 1000) logits and (B,) labels."""
    one_hot = common_utils.onehot(labels, num_classes=CLASSES)
    return jnp.mean(optax.softmax_cross_entropy(logits=logits, labels=one_hot))


def weight_penalty(params: Any) -> jax.Array:
    """Half the weight decay times the squares of all kernels, and not of vectors."""
    kernels = [x for x in jax.tree_util.tree_leaves(params) if x.ndim > 1]
    return _WEIGHT_DECAY * 0.5 * sum((jnp.sum(x**2) for x in kernels), jnp.float32(0))


def train_step(
    state: TrainState, batch: dict[str, jax.Array], schedule: optax.Schedule
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update; a float16 step with gradients that are not finite is skipped."""

    def loss_fn(params: Any) -> tuple[jax.Array, tuple[Any, jax.Array]]:
        logits, new_model_state = state.apply_fn(
            {"params": params, "batch_stats": state.batch_stats},
            batch["image"],
            mutable=["batch_stats"],
        )
        loss = cross_entropy_loss(logits, batch["label"])
        return loss + weight_penalty(params), (new_model_state, logits)

    dynamic_scale, is_finite = state.dynamic_scale, None
    if dynamic_scale:
        grad_fn = dynamic_scale.value_and_grad(loss_fn, has_aux=True)
        dynamic_scale, is_finite, aux, grads = grad_fn(state.params)
    else:
        aux, grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    new_model_state, logits = aux[1]
    metrics = {
        "loss": cross_entropy_loss(logits, batch["label"]),
        "accuracy": jnp.mean(jnp.argmax(logits, -1) == batch["label"]),
        "learning_rate": schedule(state.step),
    }
    new_state = state.apply_gradients(
        grads=grads, batch_stats=new_model_state["batch_stats"]
    )
    if dynamic_scale:
        keep = partial(jax.tree.map, partial(jnp.where, is_finite))
        new_state = new_state.replace(
            opt_state=keep(new_state.opt_state, state.opt_state),
            params=keep(new_state.params, state.params),
            dynamic_scale=dynamic_scale,
        )
        metrics["scale"] = dynamic_scale.scale
    return new_state, metrics


def make(work: Work) -> Running:
    """An entry of `rtj.bench.step_contest`."""
    policy = POLICIES[work.precision]
    model = ResNet(STAGE_SIZES[work.network], policy.dtype)
    images = step_jax.images(work).astype(policy.dtype)
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    facts = {"network": work.network}
    if work.mode == "inference":
        return step_jax.inference(model, variables, images, work, facts)
    schedule = learning_rate(work.batch)
    state = first_state(model, variables, schedule, policy.scales_loss)
    batch = {"image": images, "label": jnp.asarray(step_jax.labels(work))}
    step = jax.jit(partial(train_step, schedule=schedule), donate_argnums=0)
    with matmul_precision(policy):
        return step_jax.training(step, state, batch, facts)


def first_state(
    model: ResNet, variables: Any, schedule: optax.Schedule, scales_loss: bool
) -> TrainState:
    """The state before the first step, of the variables of `model.init`."""
    return TrainState.create(
        apply_fn=model.apply,
        params=variables["params"],
        tx=optax.sgd(schedule, momentum=_MOMENTUM, nesterov=True),
        batch_stats=variables["batch_stats"],
        dynamic_scale=DynamicScale() if scales_loss else None,
    )


def learning_rate(batch: int) -> optax.Schedule:
    """The example's: linear warmup, then cosine."""
    epoch = _IMAGES // batch
    return optax.warmup_cosine_decay_schedule(
        0.0, _BASE_RATE * batch / 256, _WARMUP_EPOCHS * epoch, _EPOCHS * epoch
    )
