"""Which fault comes when: a function of the seed."""

import random
from dataclasses import dataclass
from typing import Literal

When = Literal["start", "step", "save"]

# Shares of all faults. The rest comes after some steps.
_AT_START, _IN_SAVE, _DAMAGED = 0.1, 0.3, 0.2
_SECONDS = 6.0  # of a start: imports, data, compilation


@dataclass(frozen=True)
class Fault:
    """One kill.

    Attributes:
        signal: `SIGKILL` or `SIGTERM`.
        when: `start`, `after` seconds after the command; `step`, `after` steps after
            the first that this start reports; `save`, as soon as the folder of a save
            that is not finished is seen after so many steps.
        after: see `when`.
        damage: whether a bit of the newest checkpoint is flipped before the next
            start, where an older one is there.
    """

    signal: str
    when: When
    after: float
    damage: bool


def make_plan(kills: int, seed: int, stride: int) -> list[Fault]:
    """`kills` faults; `stride`: most steps between two of them."""
    rng = random.Random(seed)
    return [_fault(rng, stride) for _ in range(kills)]


def _fault(rng: random.Random, stride: int) -> Fault:
    signal = rng.choice(["SIGKILL", "SIGTERM"])
    kind, damage = rng.random(), rng.random() < _DAMAGED
    if kind < _AT_START:
        return Fault(signal, "start", rng.uniform(0, _SECONDS), damage)
    when: When = "save" if kind < _AT_START + _IN_SAVE else "step"
    return Fault(signal, when, rng.randrange(stride), damage)
