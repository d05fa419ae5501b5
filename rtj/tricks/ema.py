"""An exponential average of the weights, which is evaluated (beyond the paper).

    average <- d average + (1 - d) weights,   once an update, from the initial weights

with d rising to `decay` as min(decay, (1 + k) / (10 + k)) over the updates k = 0, 1,
... of the run, so that the random start is forgotten however short the run is
(TensorFlow's `ExponentialMovingAverage(num_updates=...)`).

In the wild: whether batch norm's running statistics are averaged too differs (timm
averages all of `state_dict`, torchvision's `ExponentialMovingAverage` has
`use_buffers=True`, others copy the newest), and shows in evaluation: the statistics
belong to the weights that they were taken with. Here it is a switch.
"""

from typing import Any

import jax
import jax.numpy as jnp


def ema_decay(decay: float, updates: jax.Array) -> jax.Array:
    """d of the update after `updates` of them; float32, rising to `decay` in [0, 1)."""
    count = updates.astype(jnp.float32)
    return jnp.minimum(decay, (1 + count) / (10 + count))


def ema_update(average: Any, new: Any, decay: jax.Array) -> Any:
    """`decay * average + (1 - decay) * new` of two pytrees alike."""
    return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, average, new)
