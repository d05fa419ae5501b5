"""Label smoothing (paper section 5.2, equation 4).

The paper's target is 1 - eps for the true class and eps / (K - 1) for the
others. The logits that minimise the loss then have a finite gap between the true
class and the rest, log((K - 1) * (1 - eps) / eps), about 9.1 for K = 1000 and
eps = 0.1.

In the wild: Szegedy et al., gluon-cv, PyTorch and timm mix with the uniform
distribution, 1 - eps + eps / K and eps / K. `form="uniform"` is that; with
eps' = eps * K / (K - 1) it equals the paper's form. Targets are dense and the
loss is computed in float32: in float16 the sum over classes overflows
(huggingface/transformers#10674).
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from rtj.errors import unknown

SmoothingForm = Literal["paper", "uniform"]


def smooth_labels(
    labels: jax.Array, num_classes: int, eps: float, form: SmoothingForm = "paper"
) -> jax.Array:
    """Integer labels (...,) to float32 distributions (..., num_classes).

    `eps` in [0, 1); 0 gives one-hot vectors.
    """
    if form == "paper":
        off = eps / (num_classes - 1)
        on = 1 - eps
    elif form == "uniform":
        off = eps / num_classes
        on = 1 - eps + off
    else:
        raise unknown("form", form, ("paper", "uniform"))
    one_hot = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    return off + (on - off) * one_hot


def optimal_gap(eps: float, num_classes: int) -> float:
    """The logit gap that minimises the smoothed loss (paper's form)."""
    return math.log((num_classes - 1) * (1 - eps) / eps)


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """-sum(targets * log_softmax(logits)) over the last axis, in float32."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.sum(targets * log_p, axis=-1)
