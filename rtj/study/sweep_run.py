"""The runs of a sweep, one after the other in this process.

A finished run is skipped, a broken one goes on, a failed one does not stop the others.
"""

import contextlib
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from rtj.compile_cache import keep_compiled
from rtj.errors import ConfigError, RtjError, Stopped
from rtj.loop import train
from rtj.study.metrics import Metric, main_metric
from rtj.study.sweep_plan import Planned
from rtj.study.sweep_table import SweepTable

_UNKNOWN_ERROR = 1


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        code: the exit code that `rtj.main` would have returned.
        error: one line, "" if there was none.
        seconds: of this session.
    """

    name: str
    code: int
    error: str
    seconds: float
    result: dict[str, Any] | None


def run_all(runs: Sequence[Planned], workdir: Path, table: SweepTable) -> list[Outcome]:
    """Trains each run; what it prints goes to WORKDIR/logs/NAME.log.

    A signal stops the sweep with the run that it saved.

    Raises:
        ConfigError: the folder cannot be written.
    """
    logs = workdir / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"workdir={str(workdir)!r} cannot be written: {error}"
        ) from error
    keep_compiled(workdir)
    outcomes = []
    for run in runs:
        outcome = _run(run, logs / f"{run.name}.log", table)
        outcomes.append(outcome)
        table.set(run.name, *_shown(outcome, main_metric(run.config.task)))
        if outcome.code == Stopped.exit_code:
            break
        jax.clear_caches()  # the next run's programs are others
    return outcomes


def _run(run: Planned, log: Path, table: SweepTable) -> Outcome:
    begin = time.monotonic()
    result, code, message = None, 0, ""

    def show(step: int, metrics: dict[str, float]) -> None:
        table.progress(run.name, f"step {step} loss {metrics['loss']:.3f}")

    table.set(run.name, "running")
    with (
        log.open("a") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        try:
            result = train(run.config, run.workdir, callbacks=[show])
        except RtjError as error:
            code, message = error.exit_code, " ".join(str(error).split())
            print(f"rtj: {message}")
        except Exception as error:
            code, message = _UNKNOWN_ERROR, f"{type(error).__name__}: see {log}"
            traceback.print_exc()
    return Outcome(run.name, code, message, time.monotonic() - begin, result)


def _shown(outcome: Outcome, metric: Metric) -> tuple[str, str]:
    if outcome.code == Stopped.exit_code:
        return "stopped", outcome.error
    if outcome.result is None:
        return "failed", f"exit code {outcome.code}: {outcome.error}"
    score = 100 * outcome.result[metric.key]
    return "done", f"{metric.label} {score:.2f} %  {outcome.seconds:.0f} s"
