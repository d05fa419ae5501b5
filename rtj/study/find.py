"""Runs below the folders that a report is asked for."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rtj.errors import DataError
from rtj.study.load import CONFIG_FILE, LoadedRun, load_run


@dataclass(frozen=True)
class Unreadable:
    """A folder that is not a run's, or a damaged one."""

    folder: Path
    problem: str


def load_runs(folders: Iterable[Path]) -> tuple[list[LoadedRun], list[Unreadable]]:
    """The runs in these folders and below them, each once; and what is no run.

    A folder with a `config.json` is a run, and is not searched for more.

    Raises:
        DataError: no run could be read.
    """
    runs, unreadable = [], []
    seen: set[Path] = set()
    for folder in folders:
        found = list(_find(folder))
        if not found:
            what = "no run below it" if folder.is_dir() else "there is no such folder"
            unreadable.append(Unreadable(folder, f"{folder} is not a run: {what}"))
        for workdir in found:
            if workdir.resolve() in seen:
                continue
            seen.add(workdir.resolve())
            try:
                runs.append(load_run(workdir))
            except DataError as error:
                unreadable.append(Unreadable(workdir, str(error)))
    if not runs:
        problems = "; ".join(u.problem for u in unreadable) or "no folder was named"
        raise DataError(f"no run could be read: {problems}")
    return runs, unreadable


def _find(folder: Path) -> Iterator[Path]:
    for path, below, files in os.walk(folder):
        if CONFIG_FILE in files:
            yield Path(path)
            below.clear()
        below.sort()
