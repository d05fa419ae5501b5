"""The train state: everything a checkpoint must hold to go on."""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jax.sharding import Mesh

from rtj.sharding import replicated, split_largest_axes
from rtj.tricks.low_precision import LossScale, initial_loss_scale


class TrainState(struct.PyTreeNode):
    """Parameters and everything that changes beside them.

    Attributes:
        step: updates tried so far, int32 scalar (skipped ones count).
        params, batch_stats: the model's float32 variables.
        opt_state: the optimizer's state.
        loss_scale: fp16's dynamic scale, None in other precisions.
        average: of `weights` over the updates (`rtj.tricks.ema`), None where it is off.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    loss_scale: LossScale | None
    average: dict[str, Any] | None = None

    @property
    def weights(self) -> dict[str, Any]:
        """The newest, as `model.apply` takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def variables(self) -> dict[str, Any]:
        """What is evaluated and used: the average where there is one."""
        return self.weights if self.average is None else self.average


def random_stream(seed: int | jax.Array, name: str) -> jax.Array:
    """A key of its own for each use of randomness in a run."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def fresh_state(
    key: jax.Array,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    image_size: int,
    loss_scale: float | None,
    average: bool = False,
) -> TrainState:
    """The state of a run that has not begun; with `average` it has one, of the weights.

    Meant to be jitted: all of the forward pass is thrown away.
    """
    images = jnp.zeros((1, image_size, image_size, 3))
    variables = model.init(key, images, train=False)
    params = variables["params"]
    state = TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        loss_scale=None if loss_scale is None else initial_loss_scale(loss_scale),
    )
    return state.replace(average=state.weights) if average else state


def run_once_on_devices(
    init: Callable[[jax.Array], TrainState],
    seed: int,
    sharding: Any,
    keep: Callable[..., Callable[..., Any]] = lambda jitted, options: jitted,
) -> TrainState:
    """`init` of the seed's key, made on the devices by one jitted program.

    The key is made in it too: outside, that takes four small programs more.
    `keep(jitted, options=...)` may give the program of an earlier start, made with
    these options of the compiler.
    """

    def from_seed(seed: jax.Array) -> TrainState:
        return init(random_stream(seed, "init"))

    options = _run_once()
    jitted = jax.jit(from_seed, out_shardings=sharding, compiler_options=options)
    state: TrainState = keep(jitted, options=options)(np.uint32(seed))
    return state


def _run_once() -> dict[str, Any] | None:
    """Compiler options for a program that runs once.

    On a CPU, compiling `init` at LLVM's default level takes longer than compiling the
    train step: 8.6 against 4.7 CPU seconds for the digits' network, so 1.0.
    """
    if jax.default_backend() != "cpu":
        return None
    return {
        "xla_backend_optimization_level": 0,
        "xla_cpu_use_fusion_emitters": False,
    }


def sharded_optimizer(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_size: int,
    mesh: Mesh,
) -> Any:
    """A sharding for each part of a state: all whole but what the optimizer keeps."""
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    init = partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), images)
    moments = jax.eval_shape(optimizer.init, variables["params"])
    whole, state = replicated(mesh), cast(Any, TrainState)
    return state(
        step=whole,
        params=whole,
        batch_stats=whole,
        opt_state=split_largest_axes(moments, mesh),
        loss_scale=whole,
        average=whole,
    )
