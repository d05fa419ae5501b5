"""A report of runs: `write_report`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtj.atomic_file import replaced
from rtj.errors import ConfigError
from rtj.study.class_tables import class_blocks
from rtj.study.collect import columns_run, group_runs, in_no_table
from rtj.study.document import Block, Heading, Items, Picture
from rtj.study.find import Unreadable, load_runs
from rtj.study.other_runs import other_blocks
from rtj.study.overview import data_blocks, header_blocks
from rtj.study.paper import TABLES
from rtj.study.tables import table_blocks
from rtj.study.to_html import to_html
from rtj.study.to_markdown import FIGURES, to_markdown


@dataclass(frozen=True)
class Report:
    """What a report holds.

    Attributes:
        runs: how many were read.
        unreadable: folders that were not.
        tables: numbers of the paper's tables that have a run.
    """

    document: tuple[Block, ...]
    runs: int
    unreadable: tuple[Unreadable, ...]
    tables: tuple[int, ...]


def make_report(folders: Sequence[Path]) -> Report:
    """The report of the runs in `folders` and below them.

    Raises:
        DataError: no run could be read.
    """
    runs, unreadable = load_runs(folders)
    blocks = header_blocks(runs, unreadable)
    tables: set[int] = set()
    for number, group in enumerate(group_runs(runs), start=1):
        blocks += data_blocks(group)
        for table in TABLES:
            if columns_run(group, table):
                tables.add(table.number)
                blocks += table_blocks(group, table, f"data{number}")
        others = in_no_table(group)
        of_tables = [s for s in group.settings if s not in others]
        blocks += class_blocks(of_tables) or class_blocks(others)
        if others:
            blocks += other_blocks(others)
    if unreadable:
        blocks.append(Heading(2, "Folders that could not be read"))
        blocks.append(Items(tuple(entry.problem for entry in unreadable)))
    return Report(tuple(blocks), len(runs), tuple(unreadable), tuple(sorted(tables)))


def write_report(folders: Sequence[Path], out: Path) -> Report:
    """Write `out`/report.md, `out`/report.html and `out`/figures/*.png.

    Each file is replaced in one step. The HTML needs none of the others.

    Raises:
        DataError: no run could be read.
        ConfigError: matplotlib is not installed, or `out` cannot be written.
    """
    report = make_report(folders)
    page, text = to_html(report.document), to_markdown(report.document)
    pictures = [
        (block.name, block.png())
        for block in report.document
        if isinstance(block, Picture)
    ]
    try:
        (out / FIGURES).mkdir(parents=True, exist_ok=True)
        for name, png in pictures:
            _replace(out / FIGURES / f"{name}.png", png)
        # A folder's name may be no text: bytes that are none become question marks.
        _replace(out / "report.html", page.encode(errors="replace"))
        _replace(out / "report.md", text.encode(errors="replace"))
    except OSError as error:
        raise ConfigError(f"--out={out} cannot be written: {error}") from error
    return report


def _replace(path: Path, content: bytes) -> None:
    with replaced(path) as partial:
        partial.write_bytes(content)
