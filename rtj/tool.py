"""What the small command line tools share: one-line errors and exit codes."""

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rtj.errors import ConfigError, RtjError


class Parser(argparse.ArgumentParser):
    """Raises ConfigError where argparse would print its usage and leave."""

    def __init__(self, **kwargs: Any):
        super().__init__(
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **kwargs,
        )

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def add_network_flags(parser: argparse.ArgumentParser) -> None:
    """`--weights`, `--checkpoint`, `--model` and `--classes` of `open_network`."""
    parser.add_argument(
        "--weights",
        default="",
        help="file, folder, timm:NAME or torchvision:NAME (rtj.load_weights)",
    )
    parser.add_argument("--checkpoint", default="", help="workdir of an rtj run")
    parser.add_argument(
        "--model", default="", help="name of the network, unless the weights say it"
    )
    parser.add_argument(
        "--classes",
        default="",
        help="file with one class name a line, JSON list, or 'imagenet'",
    )


def print_any_name() -> None:
    """Lets stdout and stderr take names of files that are no text, as `\\udcff`.

    Python's stdout raises UnicodeEncodeError for them, in the middle of a table.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run_tool(
    command: Callable[[argparse.Namespace], int],
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
) -> int:
    """Run `command` on the parsed arguments and return its exit code.

    Every `RtjError` becomes one line on stderr and its class's code.
    """
    print_any_name()
    try:
        return command(parser.parse_args(argv))
    except RtjError as error:
        print(f"rtj: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except SystemExit as done:  # --help
        return int(done.code or 0)
