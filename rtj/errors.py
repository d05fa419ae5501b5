"""What can go wrong, one class and one exit code each.

`rtj.main` turns every `RtjError` into one line on stderr and the exit code of
its class; library users catch the class. A message names the field or file, the
value found, and what is allowed.
"""

import difflib
from collections.abc import Iterable


class RtjError(Exception):
    """Base class; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(RtjError):
    """A bad flag, config field or workdir. Nothing has been written."""

    exit_code = 2


class Stopped(RtjError):
    """A signal ended the run after its state was saved; run again to resume."""

    exit_code = 3


class Diverged(RtjError):
    """Loss or gradients stayed non-finite, or a loss jumped, beyond what is allowed."""

    exit_code = 4


class DataError(RtjError):
    """A data set is missing, incomplete or unreadable."""

    exit_code = 5


class CheckpointError(RtjError):
    """A checkpoint or another file of a run cannot be written, found or read."""

    exit_code = 6


class NoProgress(RtjError):
    """The run stands still, or another process did not come or answer in time."""

    exit_code = 7


class StaleProgram(RtjError):
    """A compiled program kept from an earlier start is not the code's; run again."""

    exit_code = 8


def nearest_first(found: str, allowed: Iterable[str]) -> list[str]:
    """`allowed`, those that look like `found` first."""
    allowed = list(allowed)
    near = difflib.get_close_matches(found, allowed, n=max(1, len(allowed)), cutoff=0.5)
    return near + [name for name in allowed if name not in near]


def unknown(what: str, found: str, allowed: Iterable[str]) -> ConfigError:
    """The error for a name that is none of `allowed`."""
    names = ", ".join(nearest_first(found, allowed))
    return ConfigError(f"{what} {found!r} is unknown; allowed, nearest first: {names}")
