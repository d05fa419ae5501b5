"""A small train state, and checkpoints of it at steps 10 and 20."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rtj.checkpoint import Checkpointer
from rtj.state import TrainState

EVALUATION = {"step": 5, "top1": 0.25}


def make_state(step, dtype=jnp.float32, width=300):
    """Random numbers that no two steps share."""
    rng = np.random.default_rng(step)

    def random(*shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    params = {"conv": random(3, 3, 8, width), "fc": {"bias": random(7)}}
    opt_state = optax.sgd(0.1, momentum=0.9).init(params)
    return TrainState(
        step=jnp.int32(step),
        params=params,
        batch_stats={"bn": random(width)},
        opt_state=jax.tree.map(lambda x: random(*x.shape), opt_state),
        loss_scale=None,
    )


def save_steps(directory, steps=(10, 20), **options):
    with Checkpointer(directory, **options) as checkpoints:
        for step in steps:
            checkpoints.save(make_state(step), EVALUATION)


def assert_is_step(state, step):
    """`state` is what was saved at `step`, to the last bit."""
    want = make_state(step)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(want), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
