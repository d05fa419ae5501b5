"""A loss far above those before it, which ends a run where that is wanted."""

import math
import statistics
from collections import deque

WINDOW = 50
ARMED_AFTER = 20


class LossGuard:
    """Compares each step's loss with the median of the 50 before it.

    Beyond the paper, and off by default. In the wild: MaxText, OLMo-core and Levanter
    skip an update whose loss is more than 6 standard deviations above the mean of 128.
    A median is not moved by the spike itself, nor by one that the run survived.

    Args:
        max_ratio: of a loss and that median; 0 is off.
    """

    def __init__(self, max_ratio: float) -> None:
        self._max_ratio = max_ratio
        self._losses: deque[float] = deque(maxlen=WINDOW)

    def exceeded(self, loss: float) -> float | None:
        """The median that `loss` is too far above, or None.

        A loss that is not finite is not looked at. It takes 20 finite ones before the
        first answer, and a resumed run begins with none.
        """
        if self._max_ratio == 0 or not math.isfinite(loss):
            return None
        median = None
        if len(self._losses) >= ARMED_AFTER:
            median = statistics.median(self._losses)
        self._losses.append(loss)
        if median is None or loss <= self._max_ratio * median:
            return None
        return median
