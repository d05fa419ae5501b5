"""A run's folder: who may use it, what is written into it.

| file | content |
|---|---|
| `config.json` | the resolved config, flat |
| `starts.jsonl` | one line a start: time, versions, git commit, hardware, processes |
| `metrics.jsonl`, `tensorboard/` | see `rtj.metrics` |
| `checkpoints/` | see `rtj.checkpoint` |
| `result.json` | the last line of a finished run |
"""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from rtj.config import config_hash, difference, flatten
from rtj.errors import ConfigError

_PACKAGES = ("rtj", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain")


def check_workdir(workdir: Path, config: ConfigDict) -> None:
    """Raise ConfigError unless `workdir` is new, empty, or made by this config.

    Nothing is written. Fields that only say how a run executes may differ.
    """
    stored = workdir / "config.json"
    try:
        if stored.is_file():
            old = json.loads(stored.read_text())
        elif workdir.exists() and any(workdir.iterdir()):
            raise ConfigError(
                f"workdir={str(workdir)!r} holds files but no config.json of rtj; "
                "allowed: a new or empty folder, or the folder of the run to resume"
            )
        else:
            return
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"workdir={str(workdir)!r} cannot be read: {error}"
        ) from error
    changed = difference(old, flatten(config))
    if changed:
        raise ConfigError(
            f"workdir={str(workdir)!r} was made by another config "
            f"({'; '.join(changed)}); allowed: that config, or another workdir"
        )


def open_workdir(workdir: Path, config: ConfigDict, **facts: Any) -> None:
    """Process 0 makes the folder, `config.json` and a line of `starts.jsonl`.

    `facts` go into that line beside what `describe_start` finds out.
    """
    if jax.process_index() != 0:
        return  # nor look, while process 0 is at it
    check_workdir(workdir, config)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", flatten(config))
        with (workdir / "starts.jsonl").open("a") as file:
            file.write(json.dumps(describe_start(config) | facts) + "\n")
    except OSError as error:
        raise ConfigError(
            f"workdir={str(workdir)!r} cannot be written: {error}"
        ) from error


def read_result(workdir: Path) -> dict[str, Any] | None:
    """The last line of a finished run, or None."""
    path = workdir / "result.json"
    return json.loads(path.read_text()) if path.is_file() else None


def write_json(path: Path, value: Any) -> None:
    """Replace `path` in one step, so that a reader never sees half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(partial, path)


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
