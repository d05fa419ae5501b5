"""Which runs a sweep is made of: cells of the paper's tables times seeds."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from rtj.config import deciding_fields
from rtj.data.sources import resolve_auto
from rtj.errors import ConfigError, unknown
from rtj.main import parse
from rtj.recipes import TEACHERS, Recipe, recipe
from rtj.study.backbones import row_of, started
from rtj.study.cells import task_of
from rtj.study.metrics import CLASSIFICATION
from rtj.study.paper import TABLES, Row, Table, table

ALL = "all"
_OF_THE_DATA = ("data", "images")


@dataclass(frozen=True)
class Planned:
    """One run of a sweep.

    Attributes:
        name: `cosine-seed1`.
        workdir: the folder of that name in the sweep's.
        flags: of `rtj.main`, without the workdir.
    """

    name: str
    workdir: Path
    flags: tuple[str, ...]
    config: ConfigDict


@dataclass(frozen=True)
class Choice:
    """What of the tables is run.

    Attributes:
        tables: their numbers.
        rows: keys of rows, () for all; `teacher` and `teacher_mixup` name these runs.
        columns: names of columns, `("all",)` for all, () for all of the study's own
            network.
    """

    tables: tuple[int, ...]
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def arguments(choice: Choice, *, other_networks: bool) -> list[str]:
    """The config arguments of the chosen cells, each once, in the tables' order.

    Args:
        other_networks: whether cells of other networks are taken where no column is
            chosen.

    Raises:
        ConfigError: no table, row or column of that name, or nothing to run.
    """
    tables = [_numbered(number) for number in choice.tables]
    cells = [cell for t in tables for cell in _cells(t)]
    _check_names("row", choice.rows, _row_names(cells))
    _check_names("column", choice.columns, [ALL, *(column for _, column, _ in cells)])
    found = [name for name in TEACHERS.values() if name in choice.rows]
    for row, column, argument in cells:
        foreign = "model=" in argument and not other_networks
        taken = {ALL, column} & set(choice.columns) if choice.columns else not foreign
        if taken and (not choice.rows or {row.key, argument} & set(choice.rows)):
            found.append(argument)
    if not found:
        raise ConfigError(
            f"table {', '.join(map(str, choice.tables))} with these rows and columns "
            "has nothing to run; --columns=all also takes other networks"
        )
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Common:
    """What all runs of a sweep share.

    Attributes:
        file: the config file.
        keys: `key=value` for each run's argument.
        overrides: flags `--config.section.key=value`.
        workdir: the sweep's folder.
        data: of rows of tables 8 and 9; "": the paper's.
        backbones: see `rtj.study.backbones`.
    """

    file: str
    keys: Mapping[str, str]
    overrides: tuple[str, ...]
    workdir: Path
    data: str = ""
    backbones: str = ""


def plan(found: Sequence[str], seeds: int, common: Common) -> list[Planned]:
    """The runs, teachers first, with their configs checked; nothing is opened.

    Args:
        found: from `arguments`.
        seeds: runs of each, from seed 0; of a teacher there is one.

    Raises:
        ConfigError: a run's config is not allowed.
    """
    teachers = [name for name in found if name in TEACHERS.values()]
    if "teacher" not in common.keys:
        rows = [argument.partition(",")[0] for argument in found]
        teachers += [TEACHERS[row] for row in rows if row in TEACHERS]
    students = [name for name in found if name not in teachers]
    runs = [_planned(name, None, common) for name in dict.fromkeys(teachers)] + [
        _planned(name, seed, common) for seed in range(seeds) for name in students
    ]
    # Two names for one run, such as the end of table 4 and the beginning of table 5.
    unlike = {_computes(run.config): run for run in reversed(runs)}
    return [run for run in runs if unlike[_computes(run.config)] is run]


def _computes(config: ConfigDict) -> str:
    return json.dumps(deciding_fields(config) | {"name": ""}, sort_keys=True)


def _planned(argument: str, seed: int | None, common: Common) -> Planned:
    file, common_keys = common.file, dict(common.keys)
    task, name = task_of(argument), ""
    if task != CLASSIFICATION:
        name = f"{task}-{row_of(argument)}"
        argument = started(argument, common.data, common.backbones)
    if ":" in argument:  # of another file, which names its data itself
        other, _, argument = argument.partition(":")
        file = str(Path(file).with_name(f"{other}.py"))
        common_keys = {k: v for k, v in common_keys.items() if k not in _OF_THE_DATA}
    keys = {**common_keys, "seed": str(seed or 0)}
    row = argument.partition(",")[0]
    if row in TEACHERS:
        keys.setdefault("teacher", str(common.workdir / TEACHERS[row]))
    else:
        keys.pop("teacher", None)
    whole = ",".join([argument, *(f"{key}={value}" for key, value in keys.items())])
    flags = (f"--config={file}:{whole}", *common.overrides)
    name = (name or argument) + ("" if seed is None else f"-seed{seed}")
    folder = common.workdir / re.sub(r"[^A-Za-z0-9._-]", "-", name)
    return Planned(folder.name, folder, flags, parse(["rtj.main", *flags])[1])


def choose_keys(text: str) -> tuple[dict[str, str], Recipe]:
    """`key=value,...` for all runs, with `data` resolved and `images` chosen.

    Where the recipe of the data set has a number of images for whole studies and none
    is given, it is taken.

    Raises:
        ConfigError: not of this form, or `seed`, which the sweep sets, is given.
    """
    keys: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key in (*keys, "seed"):
            raise ConfigError(
                f"{part!r} in --config: a sweep takes key=value, each once, and no row "
                "(--rows names these) and no seed (--seeds counts them)"
            )
        keys[key] = value
    if keys.get("data", "auto") == "auto":
        keys["data"] = resolve_auto(keys.get("data_dir", ""))
    size = recipe(keys["data"])
    if size.study_images is not None:
        keys.setdefault("images", str(size.study_images))
    return keys, size


def _numbered(number: int) -> Table:
    numbers = [t.number for t in TABLES if any(True for _ in _cells(t))]
    if number not in numbers:
        allowed = ", ".join(map(str, numbers))
        raise ConfigError(f"--table={number} is not allowed; allowed: {allowed}")
    return table(number)


def _cells(t: Table) -> Iterator[tuple[Row, str, str]]:
    """Row, column and config argument of each cell that has one."""
    for row in t.rows:
        for column, cell in zip(t.columns, row.cells, strict=True):
            if cell.argument is not None:
                yield row, column, cell.argument


def _row_names(cells: Sequence[tuple[Row, str, str]]) -> list[str]:
    names = [name for row, _, argument in cells for name in (row.key, argument)]
    arguments = [argument for _, _, argument in cells]
    return [*names, *(TEACHERS[name] for name in arguments if name in TEACHERS)]


def _check_names(what: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    names = [name for name in dict.fromkeys(allowed) if name]
    for name in given:
        if name not in names:
            raise unknown(what, name, names)
