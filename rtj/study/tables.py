"""A table of the paper beside the runs that repeat it."""

from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from rtj.study.cells import paper_config
from rtj.study.classifiers import classifier_top1
from rtj.study.collect import DataGroup, changes, columns_run, of_cell
from rtj.study.document import Block, Grid, Heading, Items, Text
from rtj.study.figures import Curve, learning_curves
from rtj.study.lines import Line, footnote, gains, label, our_scores, paper_scores
from rtj.study.metrics import CLASSIFICATION, OF_TASK, labels, main_metric
from rtj.study.paper import Table

_TARGETS = ("label smoothing", "distill", "mixup")


def table_blocks(group: DataGroup, table: Table, name: str) -> list[Block]:
    """The columns of a table that were run, each with its curves; then the notes.

    Args:
        name: what the names of its pictures start with.
    """
    blocks: list[Block] = [Heading(3, f"Table {table.number}. {table.title}")]
    run = columns_run(group, table)
    for column in run:
        blocks += _column_blocks(group, table, column, name)
    missing = [column for column in table.columns if column not in run]
    if missing:
        blocks.append(Text(f"Not run: {', '.join(missing)}."))
    if table.notes:
        blocks += [Heading(4, "Notes on the paper's table"), Items(table.notes)]
    return blocks


def _column_blocks(
    group: DataGroup, table: Table, column: str, name: str
) -> list[Block]:
    lines = _lines(group, table, column)
    notes = list(dict.fromkeys(note for line in lines if (note := footnote(line))))
    title = f"Table {table.number}" + (f", {column}" if column else "")
    blocks: list[Block] = [_grid(f"{title}: {_measured(table)}", table, lines, notes)]
    if notes:
        blocks.append(Items(tuple(notes), "footnotes"))
    if stand_ins := _stand_ins(lines):
        blocks.append(Text(stand_ins))
    curves = [
        Curve(label(line, notes), line.setting.runs)
        for line in lines
        if line.setting is not None
    ]
    if any(run.metrics for curve in curves for run in curve.runs):
        file = f"{name}-table{table.number}-{1 + table.columns.index(column)}"
        caption = f"{title}, every run a line"
        if table.task == CLASSIFICATION and _has_own_targets(lines):
            caption += (
                "; the training loss is against the row's own targets, which cannot be "
                "met with label smoothing, mixup or distillation"
            )
        blocks.append(learning_curves(file, caption, curves, main_metric(table.task)))
    return blocks


def _measured(table: Table) -> str:
    if table.task == CLASSIFICATION:
        return "accuracy in per cent"
    return f"{' and '.join(labels(table.task))} in per cent"


def _has_own_targets(lines: Sequence[Line]) -> bool:
    return any(word in line.row.label for line in lines for word in _TARGETS)


def _lines(group: DataGroup, table: Table, column: str) -> list[Line]:
    lines = []
    for row in table.rows:
        cell = row.cells[table.columns.index(column)]
        settings = of_cell(group, cell)
        lines += [Line(row, cell, s, changes(s, cell)) for s in settings]
        if not settings:
            lines.append(Line(row, cell, None, {}))
    return lines


class _Column(NamedTuple):
    header: str
    cells: Sequence[str]
    numeric: bool = True


def _grid(
    caption: str, table: Table, lines: Sequence[Line], notes: Sequence[str]
) -> Grid:
    columns = [_Column("Row", [label(line, notes) for line in lines], numeric=False)]
    for index, name in enumerate(table.extras):
        extras = [line.row.extras[index] for line in lines]
        columns.append(_Column(name, extras, numeric=False))
    columns += [*_classifier_columns(table, lines), *_score_columns(table, lines)]
    if any(line.row.stands_on for line in lines):
        below, theirs, ours = zip(
            *(gains(table, line, lines) for line in lines), strict=True
        )
        columns.append(_Column("Compared with", below, numeric=False))
        columns += [_Column("Paper's gain", theirs), _Column("Our gain", ours)]
    rows = zip(*(column.cells for column in columns), strict=True)
    header = tuple(column.header for column in columns)
    return Grid(caption, header, tuple(rows), tuple(c.numeric for c in columns))


def _classifier_columns(table: Table, lines: Sequence[Line]) -> list[_Column]:
    """Top-1 of the classifiers that the rows start from, where the table has it."""
    metrics = [name for name in table.metrics if name not in OF_TASK[table.task]]
    if not metrics:
        return []
    paper = [paper_scores(line, metrics) for line in lines]
    ours = [classifier_top1(line.setting) if line.setting else "" for line in lines]
    columns = [_Column("Paper, ImageNet top-1", paper)]
    if any(ours):
        columns.append(_Column("Ours, classifier's top-1", ours))
    return columns


def _score_columns(table: Table, lines: Sequence[Line]) -> list[_Column]:
    """The paper's numbers in one column, ours in one each, and the number of runs."""
    names = labels(table.task)
    scores = [
        our_scores(line.setting, table.task)
        if line.setting
        else ["not run", *("" for _ in names[1:])]
        for line in lines
    ]
    counts = [str(len(s.finished)) if (s := line.setting) else "" for line in lines]
    paper = [paper_scores(line, OF_TASK[table.task]) for line in lines]
    return [
        _Column(f"Paper, {' / '.join(names)}", paper),
        *(
            _Column(f"Ours, {name}", [row[index] for row in scores])
            for index, name in enumerate(names)
        ),
        _Column("Runs", counts),
    ]


def _stand_ins(lines: Sequence[Line]) -> str:
    """Which networks and batches stand for the paper's on this data set."""
    pairs: dict[tuple[str, str], None] = {}
    for line in lines:
        if line.setting is None or line.cell.argument is None:
            continue
        ours, paper = line.setting.config, paper_config(line.cell.argument)
        pairs[ours.model.name, paper.model.name] = None
        pairs[_batch(ours), _batch(paper)] = None
    differ = [pair for pair in pairs if pair[0] != pair[1]]
    if not differ:
        return ""
    (ours_first, paper_first), *rest = differ
    also = "".join(f", {ours} for {paper}" for ours, paper in rest)
    return f"On these data {ours_first} stands for {paper_first}{also}."


def _batch(config: ConfigDict) -> str:
    return f"batch {config.train.batch_size}"
