"""Cosine learning-rate decay (paper section 5.1, equation 3).

Without the warmup, batch t of T uses eta_t = (1 + cos(t * pi / T)) * eta / 2,
where T counts the batches that follow the warmup. t starts at 0, so that the
rate is eta right after the warmup, and the value stays at 0 past T.

In the wild: code that counts the warmup inside T drops the rate at the hand-over
and never reaches 0 (huggingface/pytorch-image-models#1242); gluon-cv today
divides by T - 1, its released logs by T.
"""

import optax

from rtj.tricks.warmup import warmup


def cosine(peak: float, steps: int) -> optax.Schedule:
    """Half a cosine from `peak` at update 0 to 0 at update `steps` and after."""
    return optax.cosine_decay_schedule(peak, max(steps, 1))


def warmup_cosine(
    peak: float, *, warmup_steps: int, total_steps: int
) -> optax.Schedule:
    """Linear warmup to `peak`, then cosine over total_steps - warmup_steps."""
    return warmup(peak, warmup_steps, cosine(peak, total_steps - warmup_steps))
