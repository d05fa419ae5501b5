"""Compiled programs as files: whole or not there, checked by their sums, bounded.

A folder holds programs, each named by the StableHLO and all else that it was compiled
from, and notes of a few bytes: which StableHLO came of what. So a program outlives an
edit of the code that does not change it.
"""

import contextlib
import hashlib
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable

from rtj.atomic_file import replaced

LIMIT_BYTES = 2 * 2**30
_SUM_BYTES = 32
_CACHE_HIT = "/jax/compilation_cache/cache_hits"


class BadProgramFile(Exception):
    """A file holds no program that can be used here; the message says why."""


def read_program(
    path: Path, devices: Sequence[jax.Device]
) -> jax.stages.Compiled | None:
    """What `write_program` wrote, loaded onto `devices`; None: no such file.

    As with the cache of JAX itself, whoever may write there can make a run do anything.

    Raises:
        BadProgramFile: see there.
    """
    whole = _read(path)
    if whole is None:
        return None
    content = whole[_SUM_BYTES:]
    if hashlib.sha256(content).digest() != whole[:_SUM_BYTES]:
        raise BadProgramFile("it is damaged: its sum does not hold")
    load: Any = serialize_executable.deserialize_and_load
    try:
        compiled: jax.stages.Compiled = load(
            *pickle.loads(content), execution_devices=devices
        )
    except Exception as error:  # of pickle or of any backend: all mean "compile it"
        raise BadProgramFile(f"{type(error).__name__}: {error}") from error
    with contextlib.suppress(OSError):  # another start may be removing it
        os.utime(path)
    return compiled


def write_program(path: Path, compiled: jax.stages.Compiled) -> None:
    """Of all files of the folder those used last stay, in all `LIMIT_BYTES`.

    Raises:
        OSError: the disk is full, or the like.
        Exception: of any kind; this backend or program cannot be serialised.
    """
    content = pickle.dumps(serialize_executable.serialize(compiled))
    _replace(path, hashlib.sha256(content).digest() + content)
    _remove_the_oldest(path.parent)


def read_note(path: Path) -> str | None:
    """What `write_note` wrote; None: no such file."""
    content = _read(path)
    return None if content is None else content.decode()


def write_note(path: Path, text: str) -> None:
    """Raises OSError: the disk is full, or the like."""
    _replace(path, text.encode())


def compile_lowered(lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, bool]:
    """The program, and whether it was compiled now, not read from JAX's own cache.

    What was read cannot be written again: XLA's CPU programs lose their functions then
    (jaxlib 0.10.2), which shows when they are called.
    """
    hits: list[str] = []

    def listen(event: str, **_: str | int) -> None:
        if event == _CACHE_HIT:
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        compiled = lowered.compile()
    finally:
        jax.monitoring.unregister_event_listener(listen)
    return compiled, not hits


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadProgramFile(str(error)) from error


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as partial:
        partial.write_bytes(content)


def _remove_the_oldest(folder: Path) -> None:
    files = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            files.append((status.st_mtime, status.st_size, path))
    total = 0
    for _, size, path in sorted(files, reverse=True):
        total += size
        if total > LIMIT_BYTES:
            path.unlink(missing_ok=True)
