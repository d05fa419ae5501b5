"""Learning-rate warmup (paper section 3.1).

Over the first m batches the rate grows linearly: batch i, counted from 1, uses
i * eta / m, so batch m is the first at the full rate eta. Optax counts updates
from 0, so update s uses (s + 1) * eta / m.

In the wild: gluon-cv counts from 0 and spends its very first update at rate 0.
"""

import optax


def warmup(peak: float, steps: int, after: optax.Schedule) -> optax.Schedule:
    """`steps` updates from peak / steps up to peak, then `after`, counted from 0.

    Args:
        peak: the rate at the last update of the warmup.
        steps: length m of the warmup in updates; 0 is no warmup.
        after: the schedule that takes over at update `steps`; it sees 0 there.
    """
    if steps == 0:
        return after
    ramp = optax.linear_schedule(peak / steps, peak, max(steps - 1, 1))
    return optax.join_schedules([ramp, after], [steps])
