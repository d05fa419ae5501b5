"""Learning curves of several runs in one figure.

    python -m rtj.study.curves WORKDIR... --out=FIGURE.png

Left the training loss at the log steps, right the error on the held-out images, which
is what top-1, mIoU or mAP falls short of 1, both against epochs. Runs are of one task.
Needs the extra `plot`. `python -m rtj.report` shows more.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rtj.errors import DataError
from rtj.study.figures import figure_type
from rtj.study.load import LoadedRun, load_run
from rtj.study.metrics import Metric, main_metric
from rtj.tool import Parser, run_tool


def load_curve(workdir: Path) -> tuple[str, LoadedRun]:
    """A run, which has an evaluation, and its name.

    Raises:
        DataError: the folder is no run, or has no evaluation yet.
    """
    run = load_run(workdir)
    if not run.rows("eval"):
        raise DataError(f"{workdir} has no evaluation yet")
    return f"{run.config.name} ({run.config.data.name})", run


def plot_curves(workdirs: Sequence[Path], out: Path) -> None:
    """Write the figure of these runs to `out` (its suffix chooses the format).

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: see `load_curve`; or the runs are of several tasks.
    """
    figure = figure_type()(figsize=(9, 3.4), layout="constrained")
    curves = [load_curve(workdir) for workdir in workdirs]
    metric = _metric([run.config.task for _, run in curves])
    left, right = figure.subplots(1, 2)
    for name, run in curves:
        train, evaluations = run.rows("train"), run.rows("eval")
        left.plot(
            [r["epoch"] for r in train], [r["loss"] for r in train], label=name, lw=1
        )
        right.plot(
            [r["epoch"] for r in evaluations],
            [100 * (1 - r[metric.key]) for r in evaluations],
            label=f"{name}: {100 * evaluations[-1][metric.key]:.1f} %",
            lw=1.2,
        )
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    error = f"held-out error (100 - {metric.label}), %"
    right.set(xlabel="epoch", ylabel=error, yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", frameon=False)
    figure.savefig(out, dpi=150)


def _metric(tasks: Sequence[str]) -> Metric:
    if len(set(tasks)) > 1:
        raise DataError(
            f"the runs are of {', '.join(dict.fromkeys(tasks))}; allowed in one "
            "figure: one task"
        )
    return main_metric(tasks[0])


def main(argv: Sequence[str]) -> int:
    """The command line; returns the exit code."""
    parser = Parser(prog="rtj.study.curves", description=__doc__)
    parser.add_argument("workdirs", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)

    def command(options: argparse.Namespace) -> int:
        plot_curves(options.workdirs, options.out)
        return 0

    return run_tool(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
