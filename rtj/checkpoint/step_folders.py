"""The folders of a run's checkpoints: one a step, named by it.

Beside them there may be `STEP.orbax-checkpoint-tmp...`, a save that is under way or was
cut short, `STEP.deleting`, which is being removed, and `set-aside/`, what did not
verify, kept for whoever wants to know why.
"""

import os
import shutil
from pathlib import Path

from orbax.checkpoint.utils import TMP_DIR_SUFFIX

SET_ASIDE = "set-aside"
_DELETING = ".deleting"


def list_steps(directory: Path) -> list[int]:
    """Steps that have a folder with something in it, ascending."""
    return sorted(int(p.name) for p in _named_by_step(directory) if _holds_files(p))


def newest_step(directory: Path) -> int | None:
    """The last of `list_steps`, or None."""
    return max(list_steps(directory), default=None)


def remove_leftovers(directory: Path) -> list[str]:
    """Removes what a killed run left between its checkpoints; the names of it.

    Only for the one process that writes, and while it does not.
    """
    found = [path for path in _entries(directory) if _is_leftover(path)]
    found += [path for path in _named_by_step(directory) if not _holds_files(path)]
    for path in found:
        remove(path)
    return sorted(path.name for path in found)


def set_aside(directory: Path, step: int) -> Path:
    """Moves a step's folder away under a name that is free, so that it counts no more
    and the step can be saved again; where it is now."""
    aside = directory / SET_ASIDE
    aside.mkdir(exist_ok=True)
    number, target = 1, aside / str(step)
    while target.exists():
        number += 1
        target = aside / f"{step}.{number}"
    os.replace(directory / str(step), target)
    return target


def unfinished_saves(directory: Path) -> list[Path]:
    """Folders of saves that are under way, or were cut short."""
    return list(directory.glob(f"*{TMP_DIR_SUFFIX}*"))


def doom(directory: Path, step: int) -> Path:
    """Renames a step's folder so that it counts no more, for `remove`."""
    doomed = directory / f"{step}{_DELETING}"
    os.replace(directory / str(step), doomed)
    return doomed


def remove(folder: Path) -> None:
    """Removes a folder, or as much of it as can be."""
    shutil.rmtree(folder, ignore_errors=True)


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _named_by_step(directory: Path) -> list[Path]:
    return [
        path
        for path in _entries(directory)
        if path.name.isdecimal() and str(int(path.name)) == path.name and path.is_dir()
    ]


def _is_leftover(path: Path) -> bool:
    return TMP_DIR_SUFFIX in path.name or path.name.endswith(_DELETING)


def _holds_files(folder: Path) -> bool:
    return any(files for _, _, files in os.walk(folder))
