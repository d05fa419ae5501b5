"""What a conversion has finished, so that it goes on where it was stopped.

A folder under way holds finished shards under their own names and the ledger: what is
being made (the plan), and what each finished shard holds. A shard is noted after it
has got its name; one that is not noted is written again.
"""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rtj.data.prepare.array_record_file import ShardFacts, count_records, replace_text
from rtj.errors import ConfigError, DataError

LEDGER = "rtj_convert.json"
_LOCK = "rtj_convert.lock"
_NAMED_CHANGES = 5

Plan = dict[str, Any]


class Ledger:
    """The finished shards of a folder, by file name; see `open_ledger`."""

    def __init__(self, folder: Path, plan: Plan, finished: dict[str, ShardFacts]):
        self.folder = folder
        self.finished = finished
        self._plan = plan

    def note(self, name: str, facts: ShardFacts) -> None:
        """Notes a shard that has its name now."""
        self.finished[name] = facts
        shards = {name: asdict(self.finished[name]) for name in sorted(self.finished)}
        text = json.dumps({"plan": self._plan, "shards": shards}, indent=1)
        replace_text(self.folder / LEDGER, text + "\n")


@contextlib.contextmanager
def open_ledger(folder: Path, plan: Plan, *, redo: Path) -> Iterator[Ledger]:
    """The ledger of `folder`, which is made if need be, locked while in the block.

    Shards noted by an earlier run with the same plan are kept if each still has its
    size, opens and holds its number of examples.

    Args:
        redo: what a user deletes to start again, for messages.

    Raises:
        ConfigError: the folder cannot be made, another process works in it, or an
            earlier run had another plan; says what differs.
        DataError: the earlier run's ledger cannot be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("a")
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written: {error.strerror}; allow it, or write "
            "elsewhere with --name and --data_dir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"another process is converting in {folder}; wait for it or stop it"
            ) from error
        finished = _earlier(folder, plan, redo)
        kept = {name: s for name, s in finished.items() if _is_whole(folder / name, s)}
        yield Ledger(folder, plan, kept)
        (folder / _LOCK).unlink()


def read_ledger(folder: Path) -> dict[str, Any] | None:
    """The ledger's content: `plan`, and `shards` by name. None if there is none."""
    path = folder / LEDGER
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}; delete it and start again"
        ) from error


def _earlier(folder: Path, plan: Plan, redo: Path) -> dict[str, ShardFacts]:
    before = read_ledger(folder)
    if before is None:
        return {}
    changes = list(_changes(before["plan"], json.loads(json.dumps(plan))))
    if changes:
        raise ConfigError(
            f"{folder} holds shards of another conversion: "
            f"{'; '.join(changes[:_NAMED_CHANGES])}. To go on give the earlier source "
            f"and flags; to start again delete or rename {redo}"
        )
    return {name: ShardFacts(**shard) for name, shard in before["shards"].items()}


def _changes(before: Any, now: Any, where: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            place = f"{where}.{key}" if where else key
            yield from _changes(before.get(key), now.get(key), place)
    elif before != now:
        yield f"{where} was {_short(before)} and is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_whole(path: Path, facts: ShardFacts) -> bool:
    try:
        same_size = path.stat().st_size == facts.file_bytes
        return same_size and count_records(path) == facts.examples
    except (OSError, DataError):
        return False
