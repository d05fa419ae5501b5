"""A document as one HTML file: no scripts, nothing loaded from elsewhere."""

import importlib.resources
import re
from collections.abc import Iterator
from html import escape
from string import Template

from rtj.study.document import Bar, Document, Facts, Grid, Heading, Items, Picture, Text

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")
# Matplotlib's SVG has style attributes; nothing else is allowed.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def to_html(document: Document) -> str:
    """The page; its title is the document's first heading.

    Every section of level 2 becomes a `<section>` of its own.
    """
    title = next(block.text for block in document if isinstance(block, Heading))
    package = importlib.resources.files("rtj.study")
    return _PAGE.substitute(
        policy=_POLICY,
        title=escape(title),
        style=(package / "report.css").read_text(),
        body="\n".join(_sections(document)),
    )


def _sections(document: Document) -> Iterator[str]:
    inside = False
    for block in document:
        if isinstance(block, Heading) and block.level == 2:
            if inside:
                yield "</section>"
            inside = True
            yield "<section>"
        yield from _element(block)
    if inside:
        yield "</section>"


def _element(block: object) -> Iterator[str]:
    match block:
        case Heading(level, text):
            yield f"<h{level}>{escape(text)}</h{level}>"
        case Text(text):
            yield f"<p>{escape(text)}</p>"
        case Items(items, kind):
            tag = "ol" if kind == "footnotes" else "ul"
            yield f'<{tag} class="{kind}">'
            yield from (f"<li>{escape(item)}</li>" for item in items)
            yield f"</{tag}>"
        case Facts(pairs):
            yield "<dl>"
            for name, value in pairs:
                yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            yield "</dl>"
        case Grid():
            yield from _table(block)
        case Picture():
            yield from _figure(block)


def _table(grid: Grid) -> Iterator[str]:
    # A scroll container that the keyboard reaches, so it can be scrolled without a
    # mouse.
    label = escape(grid.caption)
    yield f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">'
    yield f"<table><caption>{label}</caption>"
    heads = zip(grid.header, grid.numeric, strict=True)
    cells = (f'<th scope="col"{_class(n)}>{escape(name)}</th>' for name, n in heads)
    yield f"<thead><tr>{''.join(cells)}</tr></thead>"
    yield "<tbody>"
    for first, *rest in grid.rows:
        cells = (
            f"<td{_class(numeric)}>{_cell(cell)}</td>"
            for cell, numeric in zip(rest, grid.numeric[1:], strict=True)
        )
        yield f'<tr><th scope="row">{_cell(first)}</th>{"".join(cells)}</tr>'
    yield "</tbody></table></div>"


def _class(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _cell(cell: str | Bar) -> str:
    if isinstance(cell, str):
        return escape(cell)
    width = f"{100 * min(max(cell.share, 0.0), 1.0):.1f}%"
    bar = f'<span class="bar" aria-hidden="true"><span style="width:{width}">'
    return f"{bar}</span></span>{escape(cell.text)}"


def _figure(picture: Picture) -> Iterator[str]:
    yield "<figure>"
    yield '<div class="panels">'
    for number, panel in enumerate(picture.panels()):
        title = escape(panel.title)
        svg = _own_ids(panel.svg, f"{picture.name}-{number}-")
        yield f'<div role="img" aria-label="{title}">{svg}</div>'
    yield "</div>"
    yield '<ul class="legend">'
    for colour, dashed, name in picture.legend:
        line = f"border-top:3px {'dashed' if dashed else 'solid'} {colour}"
        yield f'<li><span style="{line}"></span>{escape(name)}</li>'
    yield "</ul>"
    yield f"<figcaption>{escape(picture.caption)}</figcaption>"
    yield "</figure>"


def _own_ids(svg: str, prefix: str) -> str:
    """The element with its ids made unique in the page."""
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", svg)
