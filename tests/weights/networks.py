"""A network small enough for every test, with random weights made by NumPy alone."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from rtj.checkpoint import Checkpointer
from rtj.models import create_model
from rtj.parts import make_model, make_optimizer
from rtj.state import TrainState
from rtj.weights.load import variable_shapes
from rtj.workdir import open_workdir

NAME = "resnet14d"


def tiny_model(num_classes: int = 10, name: str = NAME, **options: Any) -> nn.Module:
    return create_model(name, **({"num_classes": num_classes, "width": 4} | options))


def random_variables(model: nn.Module, seed: int = 0) -> Any:
    """float32 weights; variances are positive, kernels have variance 1 / fan-in."""
    rng = np.random.default_rng(seed)

    def make(path: Any, leaf: Any) -> np.ndarray:
        low = 0.5 if path[-1].key in ("var", "scale") else -0.5
        gain = math.sqrt(12 / math.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 1
        values = gain * rng.uniform(low, low + 1, leaf.shape)
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(make, variable_shapes(model))


def make_run(folder: Path, config: Any) -> tuple[nn.Module, Any]:
    """A run's workdir without the run: its model of 10 classes and random weights.

    There are checkpoints of steps 3 and 5, the second with all parameters doubled.
    """
    open_workdir(folder, config)
    model = make_model(config, 10)
    variables = random_variables(model)
    optimizer = make_optimizer(config, optax.constant_schedule(0.1))
    with Checkpointer(folder / "checkpoints") as checkpoints:
        for step, factor in ((3, 1), (5, 2)):
            params = jax.tree.map(lambda x, f=factor: x * f, variables["params"])
            state = TrainState(
                step=jnp.int32(step),
                params=params,
                batch_stats=variables["batch_stats"],
                opt_state=optimizer.init(params),
                loss_scale=None,
            )
            checkpoints.save(state)
            checkpoints.wait()
    return model, variables


def equal(left: Any, right: Any) -> bool:
    """Whether two trees hold the same names, shapes, dtypes and bits."""
    if str(jax.tree.structure(left)) != str(jax.tree.structure(right)):
        return False
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(
        a.shape == b.shape
        and a.dtype == b.dtype
        and np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in pairs
    )
