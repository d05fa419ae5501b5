"""What a contestant of `rtj.bench step` is given and gives, and how it is timed.

Nothing here needs JAX: PyTorch's contestant may run in a Python without it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CLASSES = 1000
# A program is compiled and its memory taken in the first; the others settle.
_WARM_UP_STEPS = 3
_PROBED_STEPS = 2


@dataclass(frozen=True)
class Work:
    """One program to make.

    Attributes:
        mode: `train` (forward, backward, update) or `inference` (argmax of the logits).
        network: as the contestant calls it.
        batch: images a step.
        size: pixels a side.
        precision: `fp32`, `bf16` or `fp16`.
        platform: what JAX runs on: `cpu`, `gpu` or `tpu`.
        torch_compile: whether PyTorch's contestant compiles its network.
    """

    mode: str
    network: str
    batch: int
    size: int
    precision: str
    platform: str
    torch_compile: bool


@dataclass(frozen=True)
class Running:
    """A program on a batch that stays on the device.

    Attributes:
        step: starts one step and need not wait for it.
        finish: waits for all of them; a number that is finite if they went well.
        facts: to report, such as versions.
        bytes_accessed: of a step, if its compiler says so.
    """

    step: Callable[[], None]
    finish: Callable[[], float]
    facts: dict[str, Any]
    bytes_accessed: float | None = None


def rates(running: Running, batch: int, seconds: float) -> dict[str, float]:
    """`images_per_s` over about so many seconds, waiting before and after alone.

    And `images_per_cpu_s`, by the seconds of all the process's threads.

    Raises:
        ValueError: what was computed is not finite.
    """
    _time(running, _WARM_UP_STEPS)
    step_s = _time(running, _PROBED_STEPS)[0] / _PROBED_STEPS
    steps = max(1, math.ceil(seconds / step_s))
    elapsed, cpu_s = _time(running, steps)
    images = steps * batch
    return {"images_per_s": images / elapsed, "images_per_cpu_s": images / cpu_s}


def _time(running: Running, steps: int) -> tuple[float, float]:
    begun, begun_cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        running.step()
    result = running.finish()
    elapsed, cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu
    if not math.isfinite(result):
        raise ValueError(f"the steps give {result}")
    return elapsed, cpu_s
