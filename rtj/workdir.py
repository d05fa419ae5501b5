"""A run's folder: who may use it, what is written into it.

| file | content |
|---|---|
| `config.json` | the resolved config, flat |
| `starts.jsonl` | one line a start: time, versions, git commit, hardware, processes |
| `metrics.jsonl`, `tensorboard/` | see `rtj.metrics` |
| `skipped.jsonl` | steps that were not finite, with their examples: `rtj.skipped` |
| `log.txt`, `log.txt.1`, `log.txt.2` | what the console showed: `rtj.run_log` |
| `checkpoints/` | see `rtj.checkpoint` |
| `predictions.npz` | of the last evaluation: int32 `index`, `label`, `prediction` |
| `result.json` | the last line of a finished run |
| `lock` | who trains here: `rtj.workdir_lock` |
| `stacks-I.txt` | of process I, when the run stood still: see `rtj.watchdog` |
"""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rtj.atomic_file import new_file, replaced, write_errors
from rtj.config import config_hash, default_config, difference, flatten
from rtj.errors import ConfigError

LOCK_FILE = "lock"
_PACKAGES = ("rtj", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain")


def check_workdir(workdir: Path, config: ConfigDict) -> None:
    """Raise ConfigError unless `workdir` is new, empty, or made by this config.

    Nothing is written. Fields that only say how a run executes may differ.
    """
    stored = workdir / "config.json"
    try:
        if stored.is_file():
            old = _read_config(stored)
        elif workdir.exists() and any(p.name != LOCK_FILE for p in workdir.iterdir()):
            raise ConfigError(
                f"workdir={str(workdir)!r} holds files but no config.json of rtj; "
                "allowed: a new or empty folder, or the folder of the run to resume"
            )
        else:
            return
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(
            f"workdir={str(workdir)!r} cannot be read: {error}"
        ) from error
    changed = difference(old, flatten(config))
    if changed:
        raise ConfigError(
            f"workdir={str(workdir)!r} was made by another config "
            f"({'; '.join(changed)}); allowed: that config, or another workdir"
        )


def _read_config(path: Path) -> dict[str, Any]:
    """A stored flat config; fields that it is too old to have, as they are when off."""
    old = json.loads(path.read_text())
    task = old.get("task", "classification")
    return flatten(default_config(old["data.name"], task)) | old


def open_workdir(workdir: Path, config: ConfigDict, **facts: Any) -> None:
    """Process 0 makes the folder, `config.json` and a line of `starts.jsonl`.

    `facts` go into that line beside what `describe_start` finds out; `teacher`, the
    fingerprint of one, must be that of the earlier lines.
    """
    if jax.process_index() != 0:
        return  # nor look, while process 0 is at it
    check_workdir(workdir, config)
    _check_teacher(workdir, config, facts.get("teacher"))
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", flatten(config))
        append_line(workdir / "starts.jsonl", describe_start(config) | facts)


@contextlib.contextmanager
def writing(workdir: Path) -> Iterator[None]:
    """An OSError inside becomes a ConfigError of the workdir."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"workdir={str(workdir)!r} cannot be written: {error}"
        ) from error


def _check_teacher(workdir: Path, config: ConfigDict, fingerprint: str | None) -> None:
    """Raise ConfigError if the run began with other weights under the same path."""
    for start in read_starts(workdir):
        known = start.get("teacher")
        if known != fingerprint:
            raise ConfigError(
                f"tricks.teacher={config.tricks.teacher!r} holds other weights "
                f"({fingerprint}) than when workdir={str(workdir)!r} was begun "
                f"({known}); allowed: those, or another workdir"
            )


def read_starts(workdir: Path) -> list[dict[str, Any]]:
    """The lines of `starts.jsonl` but those that a kill cut; [] without the file."""
    path = workdir / "starts.jsonl"
    starts = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        with contextlib.suppress(ValueError):
            starts.append(json.loads(line))
    return starts


def read_result(workdir: Path) -> dict[str, Any] | None:
    """The last line of a finished run, or None."""
    path = workdir / "result.json"
    return json.loads(path.read_text()) if path.is_file() else None


def write_result(workdir: Path, result: dict[str, Any]) -> None:
    """Writes `result.json`, which makes a run a finished one.

    Raises:
        CheckpointError: the disk is full, or the like.
    """
    with write_errors(workdir / "result.json"):
        write_json(workdir / "result.json", result)


def append_line(path: Path, value: Any) -> None:
    """Appends a JSON line; one that a kill left without its end stays by itself."""
    with path.open("a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(value).encode() + b"\n")


def write_json(path: Path, value: Any) -> None:
    """Replace `path` in one step, so that a reader never sees half of it."""
    with replaced(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n")


def write_predictions(workdir: Path, rows: Sequence[np.ndarray]) -> None:
    """`rows`, each (n, 3) of index, label, prediction, as `predictions.npz`, sorted."""
    table = np.concatenate(rows).astype(np.int32)
    index, label, prediction = table[np.argsort(table[:, 0])].T
    with (
        new_file(workdir / "predictions.npz", force=True) as partial,
        partial.open("wb") as file,
    ):
        np.savez_compressed(file, index=index, label=label, prediction=prediction)


def describe_start(config: ConfigDict) -> dict[str, Any]:
    """What ran where: versions, git commit, hardware, processes."""
    device = jax.devices()[0]
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "config_hash": config_hash(config),
        "versions": versions(),
        "git_commit": git_commit(),
        "platform": device.platform,
        "device_kind": device.device_kind,
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
    }


def versions() -> dict[str, str | None]:
    """Of Python, rtj and what it computes with; None: not installed as a package."""
    packages = {name: _version(name) for name in _PACKAGES}
    return packages | {"python": platform.python_version()}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit of rtj's own checkout, "+" when edited, None outside git."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        return head + ("+" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *args: str) -> str:
    command = ["git", "-C", str(folder), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()
