"""What one device of this machine can do at most: matrix products, and memory."""

import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from rtj.data.prefetch import choose_workers
from rtj.tricks.low_precision import POLICIES, matmul_precision

_REPEATS = 5
# A side whose product takes this long, or the largest, is large enough.
_PRODUCT_S, _SIDES = 0.05, (512, 1024, 2048, 4096, 8192)
# Far beyond the caches, 256 MB of them in the largest CPUs.
_FLOATS, _FLOATS_CPU = 2**28, 2**26


def main() -> None:
    """Prints `measure` of the order on stdin, `precision`, as JSON."""
    print(json.dumps(measure(json.loads(sys.stdin.read())["precision"])))


def measure(precision: str) -> dict[str, Any]:
    """The device's `platform`, `name`, `jax` and `threads`, and its two peaks.

    `matmul_tflops` of square products in that precision, `bandwidth_gb_per_s` of
    x = x / 2 + y over float32 arrays: two read and one written. Each the best of five.
    """
    device = jax.devices()[0]
    is_cpu = device.platform == "cpu"
    return {
        "platform": device.platform,
        "name": _cpu_name() if is_cpu else device.device_kind,
        "jax": jax.__version__,
        "threads": choose_workers(0),
        "matmul_tflops": _matmul_tflops(precision),
        "bandwidth_gb_per_s": _bandwidth_gb_per_s(_FLOATS_CPU if is_cpu else _FLOATS),
    }


def _matmul_tflops(precision: str) -> float:
    policy = POLICIES[precision]
    product = jax.jit(jnp.matmul)
    for side in _SIDES:
        left, right = jax.random.normal(jax.random.key(0), (2, side, side)).astype(
            policy.dtype
        )
        with matmul_precision(policy):
            seconds = _best(lambda a=left, b=right: product(a, b))  # type: ignore[misc]
        if seconds >= _PRODUCT_S:
            break
    return 2 * side**3 / seconds / 1e12


def _bandwidth_gb_per_s(floats: int) -> float:
    update = jax.jit(lambda x, y: 0.5 * x + y, donate_argnums=0)
    x, y = jnp.zeros(floats), jnp.ones(floats)

    def run() -> jax.Array:
        nonlocal x
        x = update(x, y)
        return x

    return 3 * 4 * floats / _best(run) / 1e9


def _best(run: Callable[[], jax.Array]) -> float:
    """Seconds of one call: the least of a few groups, of calls that queue up."""
    jax.block_until_ready(run())
    calls, best = 1, float("inf")
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        for _ in range(calls):
            last = run()
        jax.block_until_ready(last)
        seconds = (time.perf_counter() - begun) / calls
        best = min(best, seconds)
        calls = max(1, round(_PRODUCT_S / best))
    return best


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo")
    if lines.exists():
        for line in lines.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
