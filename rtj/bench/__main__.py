"""Measures rtj beside its peers, on this machine, in one run.

    python -m rtj.bench input [--json] [--seconds=6] [--images=256]
        [--memory_images=50000] [--loop_steps=60]
    python -m rtj.bench checkpoint [--json] [--network=resnet50] [--saves=5]
        [--images_per_s=8270] [--folder=D]
    python -m rtj.bench loop [--json] [--loop_steps=60]
    python -m rtj.bench startup [--json] [--row=zero_gamma,data=digits] [--repeats=3]
        [--networks=resnet50d,resnet152d]
    python -m rtj.bench step [--json] [--peers=torch,flax] [--network=resnet50b]
        [--batch=256] [--size=224] [--precision=bf16] [--mode=train,inference]
        [--seconds=10] [--turns=3] [--torch_python=P] [--torch_compile=auto]
    python -m rtj.bench compiled [--json] [--topology=v5e:2x4] [--network=resnet50b]
        [--images=128]

`input`: decoding and augmenting JPEGs against tf.data, DALI, torchvision and ffcv,
those of them that are installed; see `rtj.bench.input_speed`.
`checkpoint`: how long training waits for a save, beside Orbax alone, and how much of an
epoch of ImageNet that is at so many images a second; D is where checkpoints would be.
`loop`: the training loop beside its compiled step called bare.
`startup`: seconds from the command to the first step, with and without what an earlier
start compiled; and what it takes to compile the train steps of some networks.
`step`: training and inference on one device, the GPU if there is one, beside PyTorch
with timm (in the Python P) and the step of Flax's ImageNet example, and how near that
comes to the device's limits; see `rtj.bench.step_speed`.
`compiled`: arithmetic, memory traffic, memory and exchanges of a step as the TPU
compiler makes it (`pip install 'rtj[plan]'`), beside the Flax example's; the only part
that is no measurement and comes out the same everywhere.
Give the machine nothing else to do meanwhile. With `--json` the last line of stdout is
one JSON object.
"""

import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtj import tool
from rtj.bench import (
    checkpoint_cost,
    compile_time,
    compiled_cost,
    input_speed,
    loop_speed,
    start_time,
    step_flags,
)
from rtj.bench.checkpoint_cost import IMAGES_PER_S
from rtj.errors import ConfigError
from rtj.models import list_models


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
    part = parts.add_parser("checkpoint", help="what a save costs")
    part.add_argument("--json", action="store_true", help="JSON in the last line")
    part.add_argument("--network", default="resnet50", choices=list_models())
    part.add_argument("--saves", type=int, default=5)
    part.add_argument("--images_per_s", type=float, default=IMAGES_PER_S)
    part.add_argument("--folder", default=None, help="default: the temporary folder")
    part = parts.add_parser("loop", help="what the loop costs")
    part.add_argument("--json", action="store_true", help="JSON in the last line")
    part.add_argument("--loop_steps", type=int, default=60, help="steps to train")
    part = parts.add_parser("startup", help="from the command to the first step")
    part.add_argument("--json", action="store_true", help="JSON in the last line")
    part.add_argument("--row", default="zero_gamma,data=digits", help="of ablation.py")
    part.add_argument("--repeats", type=int, default=3)
    part.add_argument("--networks", default="resnet50d,resnet152d", help="empty: none")
    step_flags.add_part(parts)
    compiled_cost.add_part(parts)
    return parser


def run(arguments: Namespace) -> int:
    """Measures, prints tables, and returns the exit code."""
    _check(arguments)
    result, table = _PARTS[arguments.part](arguments)
    print(table)
    if arguments.json:
        print(json.dumps(result))
    return 0


def _input(arguments: Namespace) -> tuple[dict[str, Any], str]:
    result = input_speed.measure(
        seconds=arguments.seconds,
        images=arguments.images,
        memory_images=arguments.memory_images,
        loop_steps=arguments.loop_steps,
    )
    return result, input_speed.describe(result)


def _checkpoint(arguments: Namespace) -> tuple[dict[str, Any], str]:
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        result = checkpoint_cost.measure(
            Path(folder),
            network=arguments.network,
            saves=arguments.saves,
            images_per_s=arguments.images_per_s,
        )
    return result, checkpoint_cost.describe(result)


def _loop(arguments: Namespace) -> tuple[dict[str, Any], str]:
    with tempfile.TemporaryDirectory() as folder:
        result = loop_speed.measure(Path(folder), arguments.loop_steps)
    return result, loop_speed.describe(result)


def _startup(arguments: Namespace) -> tuple[dict[str, Any], str]:
    with tempfile.TemporaryDirectory() as folder:
        result = start_time.measure(
            Path(folder), row=arguments.row, repeats=arguments.repeats
        )
    networks = [name for name in arguments.networks.split(",") if name]
    result["compile"] = compiled = compile_time.measure(networks)
    lines = [start_time.describe(result), compile_time.describe(compiled)]
    return result, "\n".join(filter(None, lines))


_PARTS = {
    "input": _input,
    "checkpoint": _checkpoint,
    "loop": _loop,
    "startup": _startup,
    "step": step_flags.run,
    "compiled": compiled_cost.run,
}
_LEAST = {
    "images": 1,
    "memory_images": 640,
    "loop_steps": 30,
    "saves": 1,
    "repeats": 1,
    "batch": 1,
    "size": 32,
    "turns": 1,
}
_POSITIVE = ("seconds", "images_per_s")


def _check(arguments: Namespace) -> None:
    for flag, value in vars(arguments).items():
        if flag in _POSITIVE and value <= 0:
            raise ConfigError(f"--{flag}={value}: more than 0")
        if flag in _LEAST and value < _LEAST[flag]:
            raise ConfigError(f"--{flag}={value}: {_LEAST[flag]} or more")
    folder = getattr(arguments, "folder", None)
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f"--folder={folder!r} is no folder")


def main(argv: Sequence[str]) -> int:
    """Runs the tool and returns its exit code."""
    return tool.run_tool(run, make_parser(), argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
