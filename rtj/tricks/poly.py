"""Polynomial learning-rate decay, the schedule of semantic segmentation.

Update t of T uses lr * (1 - t / T)^0.9, t from 0, where T counts the updates that
follow the warmup; the value stays at 0 past T. Source: DeepLab (arXiv 1606.00915)
and gluon-cv's training script for segmentation, which decays at every update and has
no warmup.

In the wild: gluon-cv's image classification script has a `poly` of power 2; its
scheduler divides by T - 1, so that the last update has rate 0.
"""

import optax


def poly(peak: float, steps: int, power: float = 0.9) -> optax.Schedule:
    """`peak` at update 0, falling to 0 at update `steps`, and 0 after."""
    return optax.polynomial_schedule(peak, 0.0, power, max(steps, 1))
