"""The nine tables of He et al. (arXiv 1812.01187, version 2) as data."""

from rtj.study import paper_imagenet, paper_transfer
from rtj.study.paper_types import Cell, Row, Table

__all__ = ["TABLES", "Cell", "Row", "Table", "table"]

TABLES = (
    paper_imagenet.TABLE1,
    paper_imagenet.TABLE2,
    paper_imagenet.TABLE3,
    paper_imagenet.TABLE4,
    paper_imagenet.TABLE5,
    paper_imagenet.TABLE6,
    paper_transfer.TABLE7,
    paper_transfer.TABLE8,
    paper_transfer.TABLE9,
)


def table(number: int) -> Table:
    """The paper's table of this number, 1 to 9."""
    return TABLES[number - 1]
