"""The flags of `rtj.bench step`."""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rtj.bench import step_speed
from rtj.bench.step_contestants import MODES, PEERS, Contest
from rtj.errors import ConfigError, nearest_first
from rtj.models import list_models
from rtj.tricks.low_precision import POLICIES


def add_part(parts: Any) -> None:
    """Adds the sub-command to those of `rtj.bench`."""
    part = parts.add_parser("step", help="images a second, beside PyTorch and Flax")
    part.add_argument("--json", action="store_true", help="JSON in the last line")
    part.add_argument("--peers", type=_words(PEERS, least=0), default=PEERS)
    part.add_argument("--network", default=Contest.network, choices=list_models())
    part.add_argument("--batch", type=int, default=Contest.batch)
    part.add_argument("--size", type=int, default=Contest.size, help="pixels a side")
    part.add_argument("--precision", default=Contest.precision, choices=list(POLICIES))
    part.add_argument("--mode", type=_words(MODES, least=1), default=MODES)
    part.add_argument("--seconds", type=float, default=Contest.seconds)
    part.add_argument("--turns", type=int, default=Contest.turns)
    part.add_argument("--torch_python", default=sys.executable, help="that has PyTorch")
    part.add_argument(
        "--torch_compile", default="auto", choices=("auto", "on", "off"),
        help="auto: on, except on a CPU, where it needs a C++ compiler",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measures; the result and its table.

    Raises:
        ConfigError: `--torch_python` is no program.
    """
    if shutil.which(arguments.torch_python) is None:
        raise ConfigError(f"--torch_python={arguments.torch_python!r} is no program")
    fields = vars(arguments) | {"modes": arguments.mode}
    known = Contest.__dataclass_fields__
    contest = Contest(**{name: fields[name] for name in known})
    result = step_speed.measure(contest)
    return result, step_speed.describe(result)


def _words(allowed: Sequence[str], least: int) -> Callable[[str], tuple[str, ...]]:
    """A parser of words with commas between them."""

    def parse(text: str) -> tuple[str, ...]:
        words = tuple(text.split(",")) if text else ()
        for word in words:
            if word not in allowed:
                names = ", ".join(nearest_first(word, allowed))
                raise argparse.ArgumentTypeError(f"{word!r} is none of {names}")
        if len(words) < least or len(set(words)) < len(words):
            names = ", ".join(allowed)
            raise argparse.ArgumentTypeError(f"{text!r}: each once, of {names}")
        return words

    return parse
