"""Files that appear whole or not at all."""

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
def new_file(path: Path, *, force: bool) -> Iterator[Path]:
    """A path to write to, which becomes `path` at the end of the block.

    After an error inside the block nothing is left behind.

    Raises:
        ConfigError: `path` exists and `force` is not set.
        CheckpointError: the disk is full, or the like.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        check_new_file(path, force=force)
        os.replace(partial, path)
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
