"""Learning curves of a table's rows, as PNG and as SVG for light and dark pages."""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rtj.errors import ConfigError
from rtj.study.document import Panel, Picture
from rtj.study.load import LoadedRun
from rtj.study.metrics import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Legible on white and on near-black.
COLOURS = (
    "#3b82c4",
    "#e07b39",
    "#3fa45b",
    "#c94f4f",
    "#8e6bbf",
    "#a0763a",
    "#d15fa4",
    "#2aa5a5",
)
_POINTS = 200  # of a curve: more cannot be told apart at this width
_INK = "#010203"  # stands for the page's text colour


@dataclass(frozen=True)
class Curve:
    """A row: its name and the runs of its seeds, drawn in one colour."""

    name: str
    runs: tuple[LoadedRun, ...]


@dataclass(frozen=True)
class _Plot:
    title: str
    kind: str
    value: str
    scale: float
    log: bool


def _plots(metric: Metric) -> tuple[_Plot, ...]:
    return (
        _Plot("Learning rate", "train", "lr", 1.0, log=False),
        _Plot("Training loss", "train", "loss", 1.0, log=True),
        _Plot(f"Held-out {metric.label}, %", "eval", metric.key, 100.0, log=False),
    )


def learning_curves(
    name: str, caption: str, curves: Sequence[Curve], metric: Metric
) -> Picture:
    """Learning rate, training loss and the held-out metric against epochs.

    Drawing raises ConfigError if matplotlib is not installed.
    """
    return Picture(
        name,
        caption,
        legend=tuple((*_style(i), curve.name) for i, curve in enumerate(curves)),
        panels=partial(_panels, caption, curves, _plots(metric)),
        png=partial(_png, curves, _plots(metric)),
    )


def _panels(
    caption: str, curves: Sequence[Curve], plots: Sequence[_Plot]
) -> tuple[Panel, ...]:
    figure_class = figure_type()
    panels = []
    with _settings():
        for plot in plots:
            figure = figure_class(figsize=(3.7, 2.7), layout="constrained")
            _draw(figure.subplots(), plot, curves)
            panels.append(Panel(f"{plot.title}: {caption}", _svg(figure)))
    return tuple(panels)


def _png(curves: Sequence[Curve], plots: Sequence[_Plot]) -> bytes:
    figure = figure_type()(figsize=(11, 3.6), layout="constrained")
    file = io.BytesIO()
    with _settings():
        for axes, plot in zip(figure.subplots(1, len(plots)), plots, strict=True):
            _draw(axes, plot, curves)
        lines = [_legend_line(i, curve.name) for i, curve in enumerate(curves)]
        legend = figure.legend(
            handles=lines, loc="outside lower center", ncols=4, frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # a name with two $ is no formula
        figure.savefig(file, format="png", dpi=130)
    return file.getvalue()


def figure_type() -> type["Figure"]:
    """Matplotlib's figure, without pyplot's global state.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "matplotlib is missing; install it with pip install 'rtj[plot]'"
        ) from error
    return Figure


@contextmanager
def _settings() -> Iterator[None]:
    import matplotlib

    # Text stays text; ids are the same in every report.
    options: Any = {"svg.fonttype": "none", "svg.hashsalt": "rtj", "font.size": 9}
    with matplotlib.rc_context(options):
        yield


def _legend_line(index: int, name: str) -> Any:
    from matplotlib.lines import Line2D

    colour, dashed = _style(index)
    return Line2D([], [], color=colour, ls="--" if dashed else "-", label=name)


def _style(index: int) -> tuple[str, bool]:
    """Colour and whether dashed: 8 colours, then the same dashed."""
    return COLOURS[index % len(COLOURS)], index // len(COLOURS) % 2 == 1


def _draw(axes: "Axes", plot: _Plot, curves: Sequence[Curve]) -> None:
    seen: list[float] = []
    for index, curve in enumerate(curves):
        colour, dashed = _style(index)
        width = 1.6 if len(curve.runs) == 1 else 0.9
        for run in curve.runs:
            points = _points(run, plot)
            seen += [y for _, y in points]
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=colour,
                ls="--" if dashed else "-",
                lw=width,
                marker="." if len(points) == 1 else "",
            )
    axes.set_title(plot.title, fontsize=10, color=_INK)
    axes.set_xlabel("epoch", color=_INK)
    axes.tick_params(colors=_INK, which="both")
    axes.grid(alpha=0.15, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    if plot.log and seen and max(seen) > 4 * min(seen) > 0:
        _log_scale(axes)


def _log_scale(axes: "Axes") -> None:
    """Logarithmic, with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _points(run: LoadedRun, plot: _Plot) -> list[tuple[float, float]]:
    """(epoch, value) of at most `_POINTS` rows, the last one among them.

    Losses of single steps are noisy, so those left out are averaged into the next.
    """
    rows = [row for row in run.rows(plot.kind) if _is_finite(row.get(plot.value))]
    stride = math.ceil(len(rows) / _POINTS) or 1
    ends = range(len(rows), 0, -stride)
    points = []
    for end in reversed(ends):
        part = rows[max(end - stride, 0) : end] if plot.log else rows[end - 1 : end]
        mean = math.fsum(row[plot.value] for row in part) / len(part)
        points.append((part[-1]["epoch"], plot.scale * mean))
    return points


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _svg(figure: "Figure") -> str:
    """The `<svg>` element alone, in the font and text colour of its page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # is page-wide
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    return text.replace(_INK, "currentColor")
