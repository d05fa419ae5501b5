"""Learning curves of several runs in one figure.

    python -m rtj.study.curves WORKDIR... --out=FIGURE.png

Left the training loss at the log steps, right the error (1 - top-1) on the held-out
images, both against epochs. Needs the extra `plot`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtj.errors import ConfigError, DataError
from rtj.metrics import read_metrics
from rtj.tool import Parser, run_tool

Row = dict[str, Any]


def load_curve(workdir: Path) -> tuple[str, list[Row], list[Row]]:
    """A run's name, its train rows and its eval rows, each with an `epoch`.

    Raises:
        DataError: the folder is no run, or has no evaluation yet.
    """
    stored = workdir / "config.json"
    if not stored.is_file():
        raise DataError(f"{workdir} is not a run: it has no config.json")
    config = json.loads(stored.read_text())
    rows = read_metrics(workdir)
    evaluations = [row for row in rows if row["kind"] == "eval"]
    if not evaluations:
        raise DataError(f"{workdir} has no evaluation yet")
    per_epoch = json.loads((workdir / "starts.jsonl").read_text().splitlines()[0])
    for row in rows:
        row["epoch"] = row["step"] / per_epoch["steps_per_epoch"]
    train = [row for row in rows if row["kind"] == "train"]
    return f"{config['name']} ({config['data.name']})", train, evaluations


def plot_curves(workdirs: Sequence[Path], out: Path) -> None:
    """Write the figure of these runs to `out` (its suffix chooses the format)."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "matplotlib is missing; install it with pip install 'rtj[plot]'"
        ) from error
    curves = [load_curve(workdir) for workdir in workdirs]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
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
