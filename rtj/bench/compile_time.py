"""How long a train step takes to trace, lower and compile, for networks by depth."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax

from rtj import sharding
from rtj.config import set_field
from rtj.config_args import get_config
from rtj.experiment import build_program
from rtj.plan.aot import abstract_inputs

T = TypeVar("T")

# Small images, since neither Python nor the compiler takes longer for large ones.
_CHANGES = {
    "train.batch_size": 8,
    "model.bn_group_size": 8,
    "data.image_size": 64,
    "data.eval_resize": 64,
}


def measure(networks: Sequence[str]) -> dict[str, dict[str, float]]:
    """Seconds to make each network's train step for this device; nothing is run.

    Returns:
        By network: `trace_s`, `lower_s`, `compile_s`, of nothing compiled before, and
        `cpu_s`, of this process over all three.
    """
    kept = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        return {name: _measure(name) for name in networks}
    finally:
        jax.config.update("jax_enable_compilation_cache", kept)


def _measure(network: str) -> dict[str, float]:
    config = get_config("ablation:zero_gamma,data=imagenet")
    for field, value in (_CHANGES | {"model.name": network}).items():
        set_field(config, field, value)
    mesh = sharding.make_mesh(1)
    program = build_program(config, mesh, num_classes=1000, examples=1_281_167)
    inputs = abstract_inputs(program)
    begun = time.process_time()
    traced, trace_s = _timed(lambda: program.train_step.trace(*inputs))
    lowered, lower_s = _timed(traced.lower)
    _, compile_s = _timed(lowered.compile)
    return {
        "trace_s": trace_s,
        "lower_s": lower_s,
        "compile_s": compile_s,
        "cpu_s": time.process_time() - begun,
    }


def _timed(action: Callable[[], T]) -> tuple[T, float]:
    begun = time.perf_counter()
    result = action()
    return result, time.perf_counter() - begun


def describe(result: dict[str, dict[str, Any]]) -> str:
    """A line a network."""
    return "\n".join(
        f"{name}, train step: {times['trace_s']:.1f} s to trace, "
        f"{times['lower_s']:.1f} s to lower, {times['compile_s']:.1f} s to compile; "
        f"{times['cpu_s']:.1f} CPU seconds"
        for name, times in result.items()
    )
