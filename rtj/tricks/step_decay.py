"""Step decay, the baseline's schedule (paper section 2.1).

The rate is divided by 10 after epochs 30, 60 and 90 of 120. Warmup does not
move these points: gluon-cv counts them from the start of training too.
"""

from collections.abc import Sequence

import optax


def step_decay(
    peak: float, boundaries: Sequence[int], factor: float = 0.1
) -> optax.Schedule:
    """`peak`, multiplied by `factor` from each boundary (an update count) on."""
    return optax.piecewise_constant_schedule(peak, dict.fromkeys(boundaries, factor))
