"""What a table of the paper is made of."""

from collections.abc import Mapping
from dataclasses import dataclass

from rtj.study.metrics import CLASSIFICATION


@dataclass(frozen=True)
class Cell:
    """The paper's numbers of one run, and what runs it again.

    Attributes:
        paper: per cent by metric; None where the paper has none.
        argument: of `configs/ablation.py`, without `data`, `seed` and `teacher`, or
            `FILE:ARGUMENT` of another file of `configs/`, with the paper's data and
            without `seed` and `weights`; None: no config repeats it.
    """

    paper: Mapping[str, float | None]
    argument: str | None = None


@dataclass(frozen=True)
class Row:
    """A row, with a cell for each column of its table.

    Attributes:
        key: names the row within its table.
        label: as the paper has it.
        stands_on: key of the row that this one adds something to, "" for none.
        extras: texts that only the paper has, one for each of the table's `extras`.
    """

    key: str
    label: str
    cells: tuple[Cell, ...]
    stands_on: str = ""
    extras: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        columns: names of the cells of a row; ("",) where there is only one.
        metrics: names of the numbers of a cell; those that are not of the task are the
            classifier's whose weights a run starts from.
        notes: what the paper contradicts itself in, or leaves open.
    """

    number: int
    title: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...] = ("",)
    metrics: tuple[str, ...] = ("top1", "top5")
    extras: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    task: str = CLASSIFICATION

    def row(self, key: str) -> Row:
        """The row of this key; KeyError if there is none."""
        return {row.key: row for row in self.rows}[key]

    def cell(self, key: str, column: str = "") -> Cell:
        """The cell of a row and a column."""
        return self.row(key).cells[self.columns.index(column)]

    def difference(self, key: str, column: str = "", metric: str = "top1") -> float:
        """How much the paper's row is above the one it stands on, in points.

        Raises:
            ValueError: it stands on none, or a number is missing.
        """
        parent = self.row(key).stands_on
        if not parent:
            raise ValueError(f"table {self.number}: {key!r} stands on no row")
        high = self.cell(key, column).paper[metric]
        low = self.cell(parent, column).paper[metric]
        if high is None or low is None:
            raise ValueError(
                f"table {self.number}: {key!r} or {parent!r} has no number"
            )
        return round(high - low, 2)


def accuracy(
    top1: float, top5: float | None = None, argument: str | None = None
) -> Cell:
    """A cell of top-1 and top-5 accuracy."""
    return Cell({"top1": top1, "top5": top5}, argument)
