"""A table of the paper beside the runs that repeat it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ml_collections import ConfigDict

from rtj.study.collect import (
    Changes,
    DataGroup,
    Setting,
    cell_config,
    changes,
    columns_run,
    of_cell,
)
from rtj.study.document import Block, Grid, Heading, Items, Text, plural
from rtj.study.figures import Curve, learning_curves
from rtj.study.load import LoadedRun
from rtj.study.paper import Cell, Row, Table
from rtj.study.statistics import Measure, difference, measure

_NONE = "–"
_TARGETS = ("label smoothing", "distill", "mixup")


@dataclass(frozen=True)
class Line:
    """A row of the paper with one of its settings, or with none."""

    row: Row
    cell: Cell
    setting: Setting | None
    changes: Changes


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
    notes = list(dict.fromkeys(note for line in lines if (note := _footnote(line))))
    title = f"Table {table.number}" + (f", {column}" if column else "")
    blocks: list[Block] = [_grid(f"{title}: accuracy in per cent", table, lines, notes)]
    if notes:
        blocks.append(Items(tuple(notes), "footnotes"))
    if stand_ins := _stand_ins(lines):
        blocks.append(Text(stand_ins))
    curves = [
        Curve(_label(line, notes), line.setting.runs)
        for line in lines
        if line.setting is not None
    ]
    if any(run.metrics for curve in curves for run in curve.runs):
        file = f"{name}-table{table.number}-{1 + table.columns.index(column)}"
        caption = f"{title}, every run a line"
        if any(word in line.row.label for line in lines for word in _TARGETS):
            caption += (
                "; the training loss is against the row's own targets, which cannot be "
                "met with label smoothing, mixup or distillation"
            )
        blocks.append(learning_curves(file, caption, curves))
    return blocks


def _lines(group: DataGroup, table: Table, column: str) -> list[Line]:
    lines = []
    for row in table.rows:
        cell = row.cells[table.columns.index(column)]
        settings = of_cell(group, cell)
        lines += [Line(row, cell, s, changes(s, cell)) for s in settings]
        if not settings:
            lines.append(Line(row, cell, None, {}))
    return lines


def _grid(
    caption: str, table: Table, lines: Sequence[Line], notes: Sequence[str]
) -> Grid:
    compared = any(line.row.stands_on for line in lines)
    header = ["Row", *table.extras, "Paper, top-1 / top-5"]
    header += ["Ours, top-1", "Ours, top-5", "Runs"]
    numeric = [False, *(False for _ in table.extras), True, True, True, True]
    if compared:
        header += ["Compared with", "Paper's gain", "Our gain"]
        numeric += [False, True, True]
    rows = []
    for line in lines:
        cells = [_label(line, notes), *line.row.extras, _paper(line.cell)]
        cells += _ours(line)
        if compared:
            cells += _gains(table, line, lines)
        rows.append(tuple(cells))
    return Grid(caption, tuple(header), tuple(rows), tuple(numeric))


def _label(line: Line, notes: Sequence[str]) -> str:
    note = _footnote(line)
    return line.row.label + (f" [{1 + notes.index(note)}]" if note else "")


def _footnote(line: Line) -> str:
    """What a row differs in from the cell's config, and which runs are not counted."""
    if line.setting is None:
        return ""
    parts = [f"{f}: {old} -> {new}" for f, (old, new) in line.changes.items()]
    if line.setting.finished:
        parts += [
            f"seed {run.config.seed} {unfinished(run)}, not counted"
            for run in line.setting.runs
            if not run.finished
        ]
    parts += [
        f"seed {run.config.seed} was run again in {run.workdir}, not counted"
        for run in line.setting.repeats
    ]
    return "; ".join(parts)


def unfinished(run: LoadedRun) -> str:
    """How far a run without a result has come."""
    total = "?" if run.total_steps is None else f"{run.total_steps:,}"
    return f"unfinished at step {run.step:,} of {total}"


def status(setting: Setting) -> str:
    """Of a setting without a finished run."""
    if len(setting.runs) == 1:
        return unfinished(setting.runs[0])
    return "; ".join(f"seed {r.config.seed} {unfinished(r)}" for r in setting.runs)


def _paper(cell: Cell) -> str:
    values = (cell.paper["top1"], cell.paper["top5"])
    return " / ".join(_NONE if v is None else f"{v:.2f}" for v in values)


def _ours(line: Line) -> list[str]:
    """Top-1, top-5 and the number of runs."""
    if line.setting is None:
        return ["not run", "", ""]
    top1, top5 = (measured(line.setting, metric) for metric in ("top1", "top5"))
    if top1 is None or top5 is None:
        return [status(line.setting), "", "0"]
    return [show(top1), show(top5), str(top1.n)]


def measured(setting: Setting, metric: str) -> Measure | None:
    """A metric of the finished runs, in per cent."""
    return measure([100 * r.result[metric] for r in setting.finished if r.result])


def show(value: Measure) -> str:
    """The mean, ± the standard deviation if there is one."""
    return f"{value.mean:.2f}" + _plus_minus(value.std)


def _plus_minus(error: float | None) -> str:
    return "" if error is None else f" ± {error:.2f}"


def _gains(table: Table, line: Line, lines: Sequence[Line]) -> list[str]:
    """Of the row over the one it stands on: its label, the paper's gain, ours."""
    if not line.row.stands_on:
        return ["", "", ""]
    parent = table.row(line.row.stands_on)
    below = next(other.cell for other in lines if other.row is parent)
    high, low = line.cell.paper["top1"], below.paper["top1"]
    gain = _NONE if high is None or low is None else f"{high - low:+.2f}"
    return [parent.label, gain, _our_gain(line, parent, lines)]


def _our_gain(line: Line, parent: Row, lines: Sequence[Line]) -> str:
    """Against the parent's runs with the same fields changed to the same values."""
    if line.setting is None or (ours := measured(line.setting, "top1")) is None:
        return ""
    for other in lines:
        if other.row is parent and other.setting and _new(other) == _new(line):
            base = measured(other.setting, "top1")
            if base is not None:
                gap, error = difference(ours, base)
                return f"{gap:+.2f}" + _plus_minus(error)
    return _NONE


def _new(line: Line) -> dict[str, object]:
    return {field: new for field, (_, new) in line.changes.items()}


def _stand_ins(lines: Sequence[Line]) -> str:
    """Which networks and batches stand for the paper's on this data set."""
    pairs: dict[tuple[str, str], None] = {}
    for line in lines:
        if line.setting is None or line.cell.argument is None:
            continue
        ours, paper = line.setting.config, cell_config(line.cell.argument, "imagenet")
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


def other_blocks(settings: Sequence[Setting]) -> list[Block]:
    """Runs that are in no table."""
    header = ("Run", "Network", "Batch", "Top-1", "Top-5", "Runs", "Folders")
    rows = []
    for setting in settings:
        config = setting.config
        top1, top5 = measured(setting, "top1"), measured(setting, "top5")
        results = [status(setting), ""]
        if top1 is not None and top5 is not None:
            results = [show(top1), show(top5)]
        folders = ", ".join(str(run.workdir) for run in setting.runs)
        batch, count = str(config.train.batch_size), str(len(setting.finished))
        names = (config.name, config.model.name, batch)
        rows.append((*names, *results, count, folders))
    caption = f"{plural(len(rows), 'setting')} of no table of the paper"
    numeric = (False, False, True, True, True, True, False)
    return [Heading(3, "Other runs"), Grid(caption, header, tuple(rows), numeric)]
