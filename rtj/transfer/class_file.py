"""`classes.txt`: the name of a class on each line."""

from collections import Counter
from pathlib import Path

from rtj.errors import DataError


def read_class_file(path: Path) -> list[str]:
    """The lines of a file, without blank ones at its end.

    Raises DataError: it cannot be read, is empty, or has a blank line or one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    names = [line.strip() for line in lines]
    if not all(names) or not names:
        fault = "it is empty or has a blank line"
    elif twice := [name for name, times in Counter(names).items() if times > 1]:
        fault = f"it has {twice[0]!r} on two lines"
    else:
        return names
    raise DataError(f"{path}: {fault}; allowed: another name of a class on each line")
