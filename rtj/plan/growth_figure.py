"""The table and the figure of `rtj.plan.growth`."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from rtj.plan.growth import least_hidden
from rtj.plan.table import align
from rtj.study.figures import figure_type

_Cells = list[dict[str, Any]]


def describe_growth(cells: _Cells) -> str:
    """Milliseconds of a step by slice and batch; `*` where the exchanges cannot hide.

    The last column is the smallest batch from which they can.
    """
    batches = sorted({cell["batch"] for cell in cells})
    hidden = least_hidden(cells)
    rows: list[tuple[str, ...]] = [
        ("step, ms", *(f"{batch:,}" for batch in batches), "hides from")
    ]
    for topology, own in _by_slice(cells):
        times = {cell["batch"]: _time(cell) for cell in own}
        start = hidden[topology]
        rows.append(
            (
                topology,
                *(times.get(batch, "") for batch in batches),
                "nowhere" if start is None else f"{start:,}",
            )
        )
    notes = [
        "",
        f"exchanged in a step: {_exchanged(cells)}",
        "-: does not fit; *: the exchange takes longer than the backward pass",
    ]
    return "\n".join([*align(rows), *notes])


def _exchanged(cells: _Cells) -> str:
    sizes = {cell["collective_bytes"] / 1e6 for cell in cells if cell["fits"]}
    least, most = min(sizes, default=0), max(sizes, default=0)
    if most < 1.05 * least:
        return f"{most:.1f} MB, whatever the batch"
    return f"{least:.1f} MB, up to {most:.1f} MB with micro-batches"


def plot_growth(cells: _Cells, out: Path) -> None:
    """Step time and images/s by batch, a line a slice; hollow where nothing hides.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    figure = figure_type()(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for topology, own in _by_slice(cells):
        shown = [cell for cell in own if cell["fits"]]
        batches = [cell["batch"] for cell in shown]
        times = [1e3 * cell["step_s"] for cell in shown]
        rates = [cell["images_per_s"] for cell in shown]
        for axes, values in ((left, times), (right, rates)):
            (line,) = axes.plot(batches, values, lw=1.2, label=topology)
            colour = line.get_color()
            for hides, face in ((True, colour), (False, "white")):
                chosen = [n for n, cell in enumerate(shown) if cell["hides"] == hides]
                axes.plot(
                    [batches[n] for n in chosen],
                    [values[n] for n in chosen],
                    "o",
                    color=colour,
                    mfc=face,
                    ms=5,
                )
    left.set(ylabel="step, at least, ms")
    right.set(ylabel="images/s, at most")
    for axes in (left, right):
        axes.set(xlabel="batch", xscale="log", yscale="log")
        axes.grid(alpha=0.3)
    right.legend(
        fontsize="small",
        frameon=False,
        title="hollow: the exchange\nis longer than\nthe backward pass",
        title_fontsize="small",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
    )
    figure.savefig(out, dpi=150)


def _by_slice(cells: _Cells) -> Iterator[tuple[str, _Cells]]:
    for topology, own in groupby(cells, key=lambda cell: cell["topology"]):
        yield topology, list(own)


def _time(cell: dict[str, Any]) -> str:
    if not cell["fits"]:
        return "-"
    return f"{1e3 * cell['step_s']:.3g}" + ("" if cell["hides"] else "*")
