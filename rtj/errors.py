"""What can go wrong, one class and one exit code each.

`rtj.main` turns every `RtjError` into one line on stderr and the exit code of
its class; library users catch the class. A message names the field or file, the
value found, and what is allowed.
"""


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
    """Loss or gradients stayed non-finite beyond the allowed skips."""

    exit_code = 4


class DataError(RtjError):
    """A data set is missing, incomplete or unreadable."""

    exit_code = 5


class CheckpointError(RtjError):
    """A checkpoint cannot be written, found or read."""

    exit_code = 6
