"""Files that appear whole or not at all, and the error for those that cannot."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rtj.errors import CheckpointError, ConfigError


def check_new_file(path: Path, *, force: bool) -> None:
    """Raise ConfigError unless `path` may be written."""
    if path.is_dir():
        raise ConfigError(f"{str(path)!r} is a folder; allowed: the name of a file")
    if not path.parent.is_dir():
        raise ConfigError(f"the folder of {str(path)!r} does not exist")
    if path.exists() and not force:
        raise ConfigError(f"{str(path)!r} exists; --force overwrites it")


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns a full disk and the like inside the block into CheckpointError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be written: {error}") from error


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` at the end of the block.

    After an error inside the block `path` is as before and nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[Path]:
    """`replaced`, for a file that a user asks for.

    Raises:
        ConfigError: `path` exists and `force` is not set.
        CheckpointError: the disk is full, or the like.
    """
    with write_errors(path), replaced(path) as partial:
        yield partial
        check_new_file(path, force=force)
