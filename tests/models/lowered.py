"""What a function's program for a platform is made of."""

import collections
import re
from collections.abc import Callable
from typing import Any

import jax

# What `jax.lax.platform_dependent` leaves around the branch that was chosen.
_CHOICE = ("case", "return", "constant")


def operations(function: Callable[..., Any], *args: Any, platform: str) -> dict:
    """How often each StableHLO operation stands in the program."""
    lowered = jax.jit(function).trace(*args).lower(lowering_platforms=(platform,))
    names = re.findall(r"stablehlo\.(\w+)", lowered.as_text())
    return dict(collections.Counter(name for name in names if name not in _CHOICE))
