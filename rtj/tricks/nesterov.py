"""Nesterov momentum (paper section 2.1), in the two forms in use.

With gradient g, momentum mu and rate eta:

- `inside` (MXNet's `nag`, which the paper ran): m <- mu * m - eta * g, then
  w <- w + mu * m - eta * g. The rate is inside the momentum buffer.
- `outside` (PyTorch, `optax.sgd`): m <- mu * m + g, then
  w <- w - eta * (g + mu * m).

The two are the same while the rate is constant and differ whenever it changes: under
a warmup, `inside` pushes less, since old gradients keep their old, lower rate.

gluon-cv's segmentation and detection run MXNet's `sgd`, momentum without Nesterov's
look ahead: m <- mu * m - eta * g, then w <- w + m. That is the form `none`.
"""

from typing import Literal

import optax

from rtj.errors import unknown

NesterovForm = Literal["inside", "outside", "none"]


def nesterov(
    learning_rate: optax.ScalarOrSchedule, momentum: float, form: NesterovForm
) -> optax.GradientTransformation:
    """SGD with momentum; `form` places the learning rate in or after the buffer."""
    rate = optax.scale_by_learning_rate(learning_rate)
    trace = optax.trace(decay=momentum, nesterov=form != "none")
    if form in ("inside", "none"):
        return optax.chain(rate, trace)
    if form == "outside":
        return optax.chain(trace, rate)
    raise unknown("nesterov", form, ("inside", "outside", "none"))
