"""What the training loop costs: `rtj.train` beside its compiled step called bare."""

import statistics
import time
from contextlib import closing, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from rtj.bench.loop_wait import small_config
from rtj.experiment import Experiment, build
from rtj.inputs import training_batches
from rtj.loop import train
from rtj.metrics import read_metrics
from rtj.sharding import device_batches

_TURNS = 3


def measure(workdir: Path, steps: int) -> dict[str, Any]:
    """Trains on synthetic images so many steps each way, three times by turns.

    The bare step is called on one batch that stays on the device, with nothing read
    back before the end; the loop makes batches, reads metrics and writes its files.

    Returns:
        `loop_step_s` and `bare_step_s`, medians of a step's seconds; `ratio`, bare by
        loop: 1 if the loop costs nothing. `compiles`: how often a run compiled its
        train step, at most; 1 unless something in it changes from step to step.
    """
    config = small_config("synthetic", steps)
    experiment = build(config)
    times: dict[str, list[float]] = {"loop_step_s": [], "bare_step_s": []}
    compiles = []
    for turn in range(_TURNS):
        times["bare_step_s"].append(_bare(experiment, steps))
        seconds, count = _loop(config, workdir / str(turn))
        times["loop_step_s"].append(seconds)
        compiles.append(count)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["bare_step_s"] / medians["loop_step_s"]
    return {**medians, "ratio": ratio, "compiles": max(compiles)}


def _bare(experiment: Experiment, steps: int) -> float:
    with closing(training_batches(experiment, 0)) as batches:
        batch = next(iter(device_batches(batches, experiment.mesh)))
    state = experiment.first_state()
    for number in range(steps):
        if number == 1:  # the first compiled
            jax.block_until_ready(state)
            begun = time.perf_counter()
        state, _ = experiment.train_step(state, batch)
    jax.block_until_ready(state)
    return (time.perf_counter() - begun) / (steps - 1)


def _loop(config: ConfigDict, workdir: Path) -> tuple[float, int]:
    """Seconds of a step, and how often it was compiled."""
    compiled: list[str | int | None] = []

    def count(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(kwargs.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        with redirect_stdout(StringIO()):
            train(config, workdir)
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    lines = read_metrics(workdir, ["speed"])[1:]
    seconds = statistics.mean(line["step_s"] for line in lines)
    return seconds, compiled.count("jit(train_step)")


def describe(result: dict[str, Any]) -> str:
    """The result in two lines."""
    return (
        f"a step: {1000 * result['loop_step_s']:.1f} ms in the loop, "
        f"{1000 * result['bare_step_s']:.1f} ms bare; the loop runs at "
        f"{result['ratio']:.3f} of the bare step's rate\n"
        f"a run compiled its step {result['compiles']} time(s)"
    )
