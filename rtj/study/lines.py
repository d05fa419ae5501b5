"""A row of a table as text: the paper's numbers, ours, and what both gain."""

from collections.abc import Sequence
from dataclasses import dataclass

from rtj.study.collect import Changes, Setting
from rtj.study.load import LoadedRun
from rtj.study.metrics import MAIN, METRICS, OF_TASK
from rtj.study.paper import Cell, Row, Table
from rtj.study.statistics import Measure, difference, measure

NONE = "–"


@dataclass(frozen=True)
class Line:
    """A row of the paper with one of its settings, or with none."""

    row: Row
    cell: Cell
    setting: Setting | None
    changes: Changes


def label(line: Line, notes: Sequence[str]) -> str:
    """The row's name, with the number of its footnote."""
    note = footnote(line)
    return line.row.label + (f" [{1 + notes.index(note)}]" if note else "")


def footnote(line: Line) -> str:
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


def paper_scores(line: Line, metrics: Sequence[str]) -> str:
    """The paper's numbers of these metrics."""
    values = [line.cell.paper[metric] for metric in metrics]
    return " / ".join(NONE if v is None else f"{v:.2f}" for v in values)


def our_scores(setting: Setting, task: str) -> list[str]:
    """One text for each metric of the task; of an unfinished setting how far it is."""
    found = [measured(setting, metric) for metric in OF_TASK[task]]
    if not setting.finished:
        return [status(setting), *("" for _ in found[1:])]
    return [NONE if value is None else show(value) for value in found]


def measured(setting: Setting, metric: str) -> Measure | None:
    """A metric of the finished runs, in per cent."""
    key = METRICS[metric].key
    return measure([100 * r.result[key] for r in setting.finished if r.result])


def show(value: Measure) -> str:
    """The mean, ± the standard deviation if there is one."""
    return f"{value.mean:.2f}" + _plus_minus(value.std)


def _plus_minus(error: float | None) -> str:
    return "" if error is None else f" ± {error:.2f}"


def gains(table: Table, line: Line, lines: Sequence[Line]) -> list[str]:
    """Of the row over the one it stands on: its label, the paper's gain, ours."""
    if not line.row.stands_on:
        return ["", "", ""]
    metric = MAIN[table.task]
    parent = table.row(line.row.stands_on)
    below = next(other.cell for other in lines if other.row is parent)
    high, low = line.cell.paper[metric], below.paper[metric]
    gain = NONE if high is None or low is None else f"{high - low:+.2f}"
    return [parent.label, gain, _our_gain(metric, line, parent, lines)]


def _our_gain(metric: str, line: Line, parent: Row, lines: Sequence[Line]) -> str:
    """Against the parent's runs with the same fields changed to the same values."""
    if line.setting is None or (ours := measured(line.setting, metric)) is None:
        return ""
    for other in lines:
        if other.row is parent and other.setting and _new(other) == _new(line):
            base = measured(other.setting, metric)
            if base is not None:
                gap, error = difference(ours, base)
                return f"{gap:+.2f}" + _plus_minus(error)
    return NONE


def _new(line: Line) -> dict[str, object]:
    return {field: new for field, (_, new) in line.changes.items()}
