"""What lies under a TFDS data dir: prepared data sets, and what was interrupted."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtj.data import tfds_source
from rtj.data.prepare import tfds_info
from rtj.data.prepare.shard_ledger import read_ledger
from rtj.data.prepare.tfds_info import has_array_record
from rtj.errors import DataError

UNFINISHED = "unfinished"
_INCOMPLETE = "incomplete."  # TFDS's prefix, and that of `rtj.data.prepare.target`


@dataclass(frozen=True)
class Prepared:
    """A folder named as a version.

    `formats` are array_record, tfrecord and the like, or `unfinished` alone; `splits`
    are the examples of each; `bytes` the size of all files.
    """

    name: str
    config: str
    version: str
    splits: dict[str, int]
    formats: list[str]
    bytes: int
    folder: str


@dataclass(frozen=True)
class Leftover:
    """What an interrupted preparation left, and what to do about it."""

    path: str
    bytes: int
    what: str


def take_inventory(data_dir: str = "") -> tuple[list[Prepared], list[Leftover]]:
    """The data sets and the leftovers under a TFDS data dir, by path.

    Raises DataError if there is no such folder or it cannot be read.
    """
    root = Path(tfds_source.tfds_dir(data_dir))
    if not root.is_dir():
        raise DataError(
            f"the TFDS data dir {root} does not exist; set --data_dir or TFDS_DATA_DIR"
        )
    prepared: list[Prepared] = []
    leftovers: list[Leftover] = []
    for name, config, folder in _candidates(root):
        if tfds_source.VERSION.fullmatch(folder.name):
            prepared.append(_prepared(name, config, folder))
        leftovers.extend(_leftovers(folder))
    return prepared, leftovers


def _candidates(root: Path) -> Iterator[tuple[str, str, Path]]:
    """Name, config and folder of all versions, finished or not."""
    for parent in _folders(root):
        if parent.name == "downloads":
            continue
        for child in _folders(parent):
            if _is_candidate(child):
                yield parent.name, "", child
                continue
            for grandchild in filter(_is_candidate, _folders(child)):
                yield parent.name, child.name, grandchild


def _is_candidate(folder: Path) -> bool:
    return bool(tfds_source.VERSION.fullmatch(folder.name)) or folder.name.startswith(
        _INCOMPLETE
    )


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir())
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}") from error


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _prepared(name: str, config: str, folder: Path) -> Prepared:
    splits: dict[str, int] = {}
    formats = [UNFINISHED]
    if tfds_source.is_finished(folder):
        info = tfds_info.read_info(folder)
        formats = tfds_info.file_formats(info)
        splits = tfds_info.split_sizes(info)
    return Prepared(
        name, config, folder.name, splits, formats, _size(folder), str(folder)
    )


def _leftovers(folder: Path) -> Iterator[Leftover]:
    """The folder itself, or what is unfinished in a finished one."""
    ledger = read_ledger(folder)
    finished = tfds_source.is_finished(folder)
    if ledger and not (finished and has_array_record(folder)):
        yield Leftover(str(folder), _size(folder), _under_way(ledger))
    elif folder.name.startswith(_INCOMPLETE):
        what = "a preparation by TFDS, under way or interrupted: then delete it"
        yield Leftover(str(folder), _size(folder), what)
    elif not finished:
        yield Leftover(str(folder), _size(folder), "without its metadata: delete it")
    else:
        for path in sorted(folder.glob(f"{_INCOMPLETE}*")):
            what = "written by TFDS, under way or interrupted: then delete it"
            yield Leftover(str(path), path.stat().st_size, what)


def _under_way(ledger: dict[str, Any]) -> str:
    plan = ledger["plan"]
    total = len(plan.get("files", ())) + sum(
        len(split["shard_lengths"]) for split in plan.get("splits", {}).values()
    )
    return (
        f"a conversion of {plan['source']}, {len(ledger['shards'])} of {total} shards "
        "done: the same command goes on"
    )
