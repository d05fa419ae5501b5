"""Measures rtj beside its peers, on this machine, in one run.

    python -m rtj.bench input [--json] [--seconds=6] [--images=256]
        [--memory_images=50000] [--loop_steps=60]

`input`: decoding and augmenting JPEGs against tf.data, DALI, torchvision and ffcv,
those of them that are installed; see `rtj.bench.input_speed`. Give the machine nothing
else to do meanwhile. With `--json` the last line of stdout is one JSON object.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence

from rtj import tool
from rtj.bench import input_speed
from rtj.errors import ConfigError


def make_parser() -> tool.Parser:
    """The flags."""
    parser = tool.Parser(prog="python -m rtj.bench", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("input", help="images a second, beside other loaders")
    part.add_argument("--json", action="store_true", help="JSON in the last line")
    part.add_argument("--seconds", type=float, default=6.0, help="time a contestant")
    part.add_argument("--images", type=int, default=256, help="JPEGs to make")
    part.add_argument(
        "--memory_images", type=int, default=50_000, help="images to watch memory over"
    )
    part.add_argument("--loop_steps", type=int, default=60, help="steps to train")
    return parser


def run(arguments: Namespace) -> int:
    """Measures, prints tables, and returns the exit code."""
    _check(arguments)
    result = input_speed.measure(
        seconds=arguments.seconds,
        images=arguments.images,
        memory_images=arguments.memory_images,
        loop_steps=arguments.loop_steps,
    )
    print(input_speed.describe(result))
    if arguments.json:
        print(json.dumps(result))
    return 0


def _check(arguments: Namespace) -> None:
    if arguments.seconds <= 0:
        raise ConfigError(f"--seconds={arguments.seconds}: more than 0")
    for flag, least in (("images", 1), ("memory_images", 640), ("loop_steps", 30)):
        value = getattr(arguments, flag)
        if value < least:
            raise ConfigError(f"--{flag}={value}: {least} or more")


def main(argv: Sequence[str]) -> int:
    """Runs the tool and returns its exit code."""
    return tool.run_tool(run, make_parser(), argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
