"""Fixtures of the study's tests: run folders, and reports of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtj.study.build import Report, make_report
from rtj.study.document import Bar, Grid, Heading, Items
from tests.study.run_folders import write_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder to put run folders in."""
    return tmp_path / "runs"


@pytest.fixture
def add_run(runs: Path) -> Callable[..., Path]:
    """Writes a run of an ablation argument into `runs`, numbered; see `write_run`."""

    def add(argument: str, **options: Any) -> Path:
        number = len(list(runs.glob("*"))) if runs.is_dir() else 0
        return write_run(runs / f"run{number:02}", argument, **options)

    return add


class View:
    """What a report says, by caption."""

    def __init__(self, report: Report):
        self.report = report
        self.grids = [b for b in report.document if isinstance(b, Grid)]
        self.headings = [b.text for b in report.document if isinstance(b, Heading)]
        self.items = [
            i for b in report.document if isinstance(b, Items) for i in b.items
        ]

    def rows(self, caption: str) -> list[dict[str, str]]:
        """The rows of the one grid whose caption starts so, cells by header."""
        (grid,) = [g for g in self.grids if g.caption.startswith(caption)]
        return [
            {
                name: cell.text if isinstance(cell, Bar) else cell
                for name, cell in zip(grid.header, row, strict=True)
            }
            for row in grid.rows
        ]

    def row(self, caption: str, label: str) -> dict[str, str]:
        """The one row of that label."""
        (row,) = [r for r in self.rows(caption) if r["Row"] == label]
        return row


@pytest.fixture
def view(runs: Path) -> Callable[..., View]:
    """The report of `runs`, or of the folders given."""
    return lambda *folders: View(make_report(folders or [runs]))
