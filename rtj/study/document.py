"""A report as plain blocks, which `to_html` and `to_markdown` write out.

All texts are plain: the writers escape them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """A section's title; level 1 is the report's own."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list; `kind` says what for: 'notes' or 'footnotes' (numbered)."""

    items: tuple[str, ...]
    kind: str = "notes"


@dataclass(frozen=True)
class Facts:
    """Names and their values."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Bar:
    """A share of 1 as a bar, with its text."""

    share: float
    text: str


@dataclass(frozen=True)
class Grid:
    """A table whose first column names the row.

    Attributes:
        numeric: whether each column is of numbers.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | Bar, ...], ...]
    numeric: tuple[bool, ...]


@dataclass(frozen=True)
class Panel:
    """One plot as an SVG element, and what it shows."""

    title: str
    svg: str


@dataclass(frozen=True)
class Picture:
    """Plots side by side, drawn when they are asked for.

    Attributes:
        name: of its file beside report.md, without folder and suffix.
        legend: a CSS colour, whether the line is dashed, and the line's name.
        panels: draws each plot.
        png: draws all plots and the legend as one PNG file.
    """

    name: str
    caption: str
    legend: tuple[tuple[str, bool, str], ...]
    panels: Callable[[], tuple[Panel, ...]]
    png: Callable[[], bytes]


Block = Heading | Text | Items | Facts | Grid | Picture
Document = Sequence[Block]


def plural(count: int, noun: str) -> str:
    """`"1 run"`, `"2 runs"`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
