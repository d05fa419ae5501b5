"""A document as Markdown, with its pictures as files beside it."""

import html
import re
from collections.abc import Iterator

from rtj.study.document import Bar, Document, Facts, Grid, Heading, Items, Picture, Text

FIGURES = "figures"


def to_markdown(document: Document) -> str:
    """GitHub's Markdown; pictures are linked as `figures/NAME.png`."""
    return "\n\n".join("\n".join(_lines(block)) for block in document) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line, in a table as well."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))", r"\\\1", plain)


def _lines(block: object) -> Iterator[str]:
    match block:
        case Heading(level, text):
            yield f"{'#' * level} {escape(text)}"
        case Text(text):
            yield _paragraph(text)
        case Items(items, kind):
            for number, item in enumerate(items, start=1):
                mark = f"{number}." if kind == "footnotes" else "-"
                yield f"{mark} {escape(item)}"
        case Facts(pairs):
            for name, value in pairs:
                yield f"- **{escape(name)}:** {escape(value)}"
        case Grid():
            yield from _table(block)
        case Picture(name=name, caption=caption):
            yield f"![{escape(caption)}]({FIGURES}/{name}.png)"


def _paragraph(text: str) -> str:
    # A paragraph that starts like a heading or a list would become one.
    return re.sub(r"^(\d*)([#+\-.)])", r"\1\\\2", escape(text))


def _table(grid: Grid) -> Iterator[str]:
    yield f"**{escape(grid.caption)}**"
    yield ""
    yield _row([escape(name) for name in grid.header])
    yield _row(["---:" if numeric else "---" for numeric in grid.numeric])
    for row in grid.rows:
        yield _row([escape(c.text if isinstance(c, Bar) else c) for c in row])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
