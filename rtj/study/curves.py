"""Learning curves of several runs in one figure.

    python -m rtj.study.curves WORKDIR... --out=FIGURE.png

Left the training loss at the log steps, right the error (1 - top-1) on the held-out
images, both against epochs. Needs the extra `plot`. `python -m rtj.report` shows more.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rtj.errors import DataError
from rtj.study.figures import figure_type
from rtj.study.load import Row, load_run
from rtj.tool import Parser, run_tool


def load_curve(workdir: Path) -> tuple[str, list[Row], list[Row]]:
    """A run's name, its train rows and its eval rows, each with an `epoch`.

    Raises:
        DataError: the folder is no run, or has no evaluation yet.
    """
    run = load_run(workdir)
    evaluations = run.rows("eval")
    if not evaluations:
        raise DataError(f"{workdir} has no evaluation yet")
    name = f"{run.config.name} ({run.config.data.name})"
    return name, run.rows("train"), evaluations


def plot_curves(workdirs: Sequence[Path], out: Path) -> None:
    """Write the figure of these runs to `out` (its suffix chooses the format).

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: see `load_curve`.
    """
    figure = figure_type()(figsize=(9, 3.4), layout="constrained")
    curves = [load_curve(workdir) for workdir in workdirs]
    left, right = figure.subplots(1, 2)
    for name, train, evaluations in curves:
        left.plot(
            [r["epoch"] for r in train], [r["loss"] for r in train], label=name, lw=1
        )
        right.plot(
            [r["epoch"] for r in evaluations],
            [100 * (1 - r["top1"]) for r in evaluations],
            label=f"{name}: {100 * evaluations[-1]['top1']:.1f} %",
            lw=1.2,
        )
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.set(xlabel="epoch", ylabel="held-out error, %", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", frameon=False)
    figure.savefig(out, dpi=150)


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
