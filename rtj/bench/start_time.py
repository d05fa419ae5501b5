"""How long a run takes to its first step, with nothing compiled and with all of it."""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from rtj.config_args import config_file
from rtj.errors import RtjError
from rtj.metrics import METRICS_FILE

_POLL_S = 0.01


def measure(folder: Path, *, row: str, repeats: int) -> dict[str, Any]:
    """Starts `rtj.main` with `row` of `configs/ablation.py`, ends it at the first step.

    Returns:
        Medians of seconds: `import_s` of `import rtj, rtj.models`; `cold_s` and
        `warm_s` from the command to the first step's metrics, without and with compiled
        programs of an earlier start; `cold_cpu_s` and `warm_cpu_s`, the CPU seconds of
        the run until then. `ratio`: warm by cold.

    Raises:
        RtjError: a run ended before its first step.
    """
    times: dict[str, list[float]] = defaultdict(list)
    for number in range(repeats):
        begun = time.perf_counter()
        program = "import rtj, rtj.models"
        subprocess.run([sys.executable, "-c", program], check=True)
        times["import_s"].append(time.perf_counter() - begun)
        cache = folder / f"cache-{number}"
        for name in ("cold", "warm"):
            workdir = folder / f"{name}-{number}"
            wall, cpu = _to_the_first_step(row, workdir, cache)
            times[f"{name}_s"].append(wall)
            times[f"{name}_cpu_s"].append(cpu)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"row": row, **medians, "ratio": medians["warm_s"] / medians["cold_s"]}


def _to_the_first_step(row: str, workdir: Path, cache: Path) -> tuple[float, float]:
    """Seconds and CPU seconds."""
    command = [
        *(sys.executable, "-m", "rtj.main"),
        f"--config={config_file('ablation')}:{row}",
        f"--workdir={workdir}",
        "--config.train.log_every=1",
    ]
    log, metrics = workdir.with_suffix(".log"), workdir / METRICS_FILE
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    before = _cpu_seconds()
    with log.open("w") as file:
        begun = time.perf_counter()
        child = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        while not (metrics.exists() and metrics.stat().st_size):
            if child.poll() is not None:
                raise RtjError(
                    f"the run ended before its first step: {log.read_text()}"
                )
            time.sleep(_POLL_S)
        seconds = time.perf_counter() - begun
    finally:
        child.kill()
        child.wait()
    return seconds, _cpu_seconds() - before


def _cpu_seconds() -> float:
    """Of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def describe(result: dict[str, Any]) -> str:
    """The result in three lines."""
    return (
        f"import rtj, rtj.models: {result['import_s']:.2f} s\n"
        f"{result['row']}, command to first step: {result['cold_s']:.1f} s cold, "
        f"{result['warm_s']:.1f} s with compiled programs, {result['ratio']:.2f} of it"
        f"\nCPU seconds until then: {result['cold_cpu_s']:.1f} and "
        f"{result['warm_cpu_s']:.1f}"
    )
