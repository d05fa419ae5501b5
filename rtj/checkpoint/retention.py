"""Which checkpoints stay when a newer one is there."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Retention:
    """A checkpoint stays for any of three reasons.

    Attributes:
        last: it is one of so many newest, 1 or more.
        best: it is one of so many with the highest score.
        every: its step is a multiple of this; 0: no reason.
    """

    last: int = 2
    best: int = 0
    every: int = 0

    def superfluous(
        self, steps: Collection[int], scores: Mapping[int, float]
    ) -> list[int]:
        """Those of `steps` that go; `scores`, by step, may lack some and have more.

        Of two with the same score the newer is better. NaN is no score.
        """
        scored = [s for s in steps if s in scores and scores[s] == scores[s]]
        kept = set(sorted(steps)[-self.last :])
        ranked = sorted(scored, key=lambda step: (scores[step], step), reverse=True)
        kept.update(ranked[: self.best])
        if self.every:
            kept.update(step for step in steps if step % self.every == 0)
        return sorted(set(steps) - kept)
