"""Runs to the cells of the paper's tables.

Runs whose configs differ in nothing but the seed, the teacher (which has seeds of its
own) and how often they are evaluated and saved are one `Setting`. So are those of a row
of tables 8 and 9 that start from other weights, as these are the row's classifier and
have seeds too. A setting stands in a cell if it has the name, the network and the batch
of the cell's config on the same data; what else differs is listed.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from rtj.config import deciding_fields
from rtj.study.cells import cell_config, names_its_data, task_of
from rtj.study.load import LoadedRun
from rtj.study.metrics import CLASSIFICATION, is_table_row
from rtj.study.paper import TABLES, Cell, Table

# Of these, runs of one setting may differ: none changes what is compared.
_OF_A_RUN = ("seed", "tricks.teacher", "train.eval_every", "train.save_every")
_OF_THE_DATA = (
    "data.name",
    "data.train_split",
    "data.eval_split",
    "data.image_size",
)

Changes = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Setting:
    """The seeds of one config.

    Attributes:
        runs: one a seed; where a seed was run twice, a finished run first.
        repeats: further runs of these seeds, not counted.
    """

    runs: tuple[LoadedRun, ...]
    repeats: tuple[LoadedRun, ...]

    @property
    def config(self) -> ConfigDict:
        """Of its first run."""
        return self.runs[0].config

    @property
    def finished(self) -> tuple[LoadedRun, ...]:
        """The runs with a result."""
        return tuple(run for run in self.runs if run.finished)


@dataclass(frozen=True)
class DataGroup:
    """The runs of one task on one data set, which alone may share a table.

    Attributes:
        name: of the data set.
        image_size: in pixels, where it is not what the recipe gives the network.
    """

    task: str
    name: str
    train_split: str
    eval_split: str
    image_size: int | None
    settings: tuple[Setting, ...]

    @property
    def runs(self) -> list[LoadedRun]:
        """All of its runs, those not counted left out."""
        return [run for setting in self.settings for run in setting.runs]


def group_runs(runs: Iterable[LoadedRun]) -> list[DataGroup]:
    """Runs by task and data, and by setting within, in the order of first runs."""
    by_data: dict[tuple[str, str, str, str, int | None], list[LoadedRun]] = {}
    for run in runs:
        by_data.setdefault(_data_key(run.config), []).append(run)
    return [DataGroup(*key, _settings(found)) for key, found in by_data.items()]


def _data_key(config: ConfigDict) -> tuple[str, str, str, str, int | None]:
    data = config.data
    argument = f"baseline,model={config.model.name}"
    if config.task != CLASSIFICATION:
        cells = (
            row.cells[0] for t in TABLES if t.task == config.task for row in t.rows
        )
        argument = str(next(cells).argument)  # the rows differ in weights alone
    usual = cell_config(argument, data.name)
    size = None if data.image_size == usual.data.image_size else data.image_size
    return config.task, data.name, data.train_split, data.eval_split, size


def _settings(runs: Sequence[LoadedRun]) -> tuple[Setting, ...]:
    by_config: dict[str, list[LoadedRun]] = {}
    for run in runs:
        fields = deciding_fields(run.config) | dict.fromkeys(_OF_A_RUN)
        if is_table_row(run.config):
            fields["train.weights"] = bool(run.config.train.weights)
        key = json.dumps(fields, sort_keys=True)
        by_config.setdefault(key, []).append(run)
    return tuple(map(_setting, by_config.values()))


def _setting(runs: Sequence[LoadedRun]) -> Setting:
    ordered = sorted(runs, key=lambda run: (run.config.seed, not run.finished))
    first: dict[int, LoadedRun] = {}
    for run in ordered:
        first.setdefault(run.config.seed, run)
    kept = tuple(first.values())
    return Setting(kept, tuple(run for run in ordered if run not in kept))


def stands_in(setting: Setting, cell: Cell) -> bool:
    """Whether a setting is a run of this cell, perhaps with other fields changed.

    Or of one that computes the same under another name: table 4 ends with the run
    that table 5 starts with. Rows of tables 8 and 9 differ in their weights and thus by
    name alone.
    """
    ours = setting.config
    if cell.argument is None or task_of(cell.argument) != ours.task:
        return False
    paper = cell_config(cell.argument, ours.data.name)
    if names_its_data(cell.argument) and ours.data.name != paper.data.name:
        return False
    taught = bool(ours.tricks.teacher) == bool(paper.tricks.teacher)
    same = taught and ours.task == CLASSIFICATION and not changes(setting, cell)
    return same or _identity(ours) == _identity(paper)


def _identity(config: ConfigDict) -> tuple[str, str, int]:
    return config.name, config.model.name, config.train.batch_size


def changes(setting: Setting, cell: Cell) -> Changes:
    """The deciding fields that differ: field to (the cell's, the setting's).

    What runs of one setting may differ in and what the data group says is left out. Of
    a row of tables 8 and 9 only having no weights at all is a change.
    """
    assert cell.argument is not None
    paper = deciding_fields(cell_config(cell.argument, setting.config.data.name))
    ours = deciding_fields(setting.config)
    if is_table_row(setting.config):
        for fields in (paper, ours):
            given = fields["train.weights"]
            fields["train.weights"] = "the row's" if given else "random"
    return {
        field: (paper.get(field), ours.get(field))
        for field in sorted(paper.keys() | ours.keys())
        if field not in ("name", *_OF_A_RUN, *_OF_THE_DATA)
        and paper.get(field) != ours.get(field)
    }


def of_cell(group: DataGroup, cell: Cell) -> list[Setting]:
    """The settings in a cell, the one with the fewest changes first."""
    found = [setting for setting in group.settings if stands_in(setting, cell)]
    return sorted(found, key=lambda setting: len(changes(setting, cell)))


def columns_run(group: DataGroup, table: Table) -> list[str]:
    """The columns of a table that have a run."""
    return [
        column
        for index, column in enumerate(table.columns)
        if any(of_cell(group, row.cells[index]) for row in table.rows)
    ]


def in_no_table(group: DataGroup) -> list[Setting]:
    """The settings that are in no cell of any table."""
    cells = [cell for table in TABLES for row in table.rows for cell in row.cells]
    return [
        setting
        for setting in group.settings
        if not any(stands_in(setting, cell) for cell in cells)
    ]
