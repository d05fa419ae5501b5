"""Kills a small training again and again, and compares it with one left alone.

    python -m rtj.faults [--kills=50] [--seed=0] [--steps=400] [--out=D] [--json]

Trains a small network on the built-in digits twice: once undisturbed, in D/alone, and
once, in D/killed, with SIGKILL and SIGTERM at random times: while it starts, between
steps, in the middle of a save; now and then with a flipped bit in the newest checkpoint
before the next start. In the end every parameter, running statistic, optimizer state,
metric and prediction of the two must be the same to the last bit.

A kill costs a start, about 8 s of one core. With --json the last line on stdout is one
object: `kills`, `in_save` (how many met a save under way), `damaged`, `left`
(unfinished saves left behind), `starts`, `differences`. Exit codes: 0 the same, 1 not,
2 bad flags, 6 the training did not get to its end.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rtj.config import set_field
from rtj.config_args import config_file, get_config
from rtj.errors import ConfigError
from rtj.faults.compare import differences
from rtj.faults.plan import Fault, make_plan
from rtj.faults.victim import Outcome, flip_a_bit, run_to_the_end, strike
from rtj.tool import Parser, run_tool

_ROW = "zero_gamma,data=digits"
_SAVE_EVERY = 12  # steps; a kill rarely comes later than two saves after a start
_FIELDS: dict[str, Any] = {
    "model.width": 4,
    "model.small_images": True,
    "model.bn_group_size": 8,
    "train.batch_size": 32,
    "train.eval_every": 0.4,  # epochs of 125 steps
    "train.save_every": _SAVE_EVERY / 125,
    "train.log_every": 1,
    "data.image_size": 14,
    "data.eval_resize": 14,
    "data.eval_split": "test[:100]",
    "mesh.devices": 1,
}


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m rtj.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument(
        "--out", type=Path, help="a new folder; default: a temporary one"
    )
    parser.add_argument("--json", action="store_true")
    return parser


def _command(args: argparse.Namespace) -> int:
    for flag in ("kills", "steps"):
        if getattr(args, flag) < 1:
            raise ConfigError(f"--{flag}={getattr(args, flag)}; allowed: 1 or more")
    if args.out is None:
        with tempfile.TemporaryDirectory(prefix="rtj-faults-") as folder:
            return _run(args, Path(folder))
    if args.out.exists():
        raise ConfigError(f"--out={str(args.out)!r} exists; allowed: a new folder")
    args.out.mkdir(parents=True)
    return _run(args, args.out)


def _run(args: argparse.Namespace, folder: Path) -> int:
    config, alone, killed = (
        small_config(args.steps),
        folder / "alone",
        folder / "killed",
    )
    run_to_the_end(_flags(config, alone), folder / "alone.log")
    summary = _torment(args, config, killed, folder / "killed.log")
    found = differences(config, alone, killed)
    for difference in found:
        print(difference)
    print("the same to the last bit" if not found else "NOT the same")
    if args.json:
        print(json.dumps(summary | {"differences": len(found)}), flush=True)
    return 1 if found else 0


def _torment(
    args: argparse.Namespace, config: ConfigDict, workdir: Path, log: Path
) -> dict[str, int]:
    """Kills as planned, then lets the run end."""
    rng, flags = random.Random(args.seed), _flags(config, workdir)
    outcomes, damaged = [], 0
    for number, fault in enumerate(make_plan(args.kills, args.seed, _SAVE_EVERY), 1):
        outcome = strike(flags, workdir, fault, log)
        outcomes.append(outcome)
        file = flip_a_bit(workdir / "checkpoints", rng) if fault.damage else None
        damaged += file is not None
        print(_describe(number, fault, outcome, file), flush=True)
    run_to_the_end(flags, log)
    return {
        "kills": sum(outcome.code != 0 for outcome in outcomes),
        "in_save": sum(outcome.in_save for outcome in outcomes),
        "left": sum(outcome.left for outcome in outcomes),
        "damaged": damaged,
        "starts": len(outcomes) + 1,
    }


def _describe(number: int, fault: Fault, outcome: Outcome, damaged: str | None) -> str:
    line = (
        f"{number:3} {fault.signal} at {fault.when} +{fault.after:.3g}: exit code "
        f"{outcome.code}, newest checkpoint {outcome.newest}"
    )
    line += ", in a save" if outcome.in_save else ""
    return line + (f", a bit flipped in {damaged}" if damaged else "")


def small_config(steps: int) -> ConfigDict:
    """The training: real digits at 14 pixels, a save every 12 steps."""
    config = get_config(f"ablation:{_ROW}")
    for field, value in (_FIELDS | {"train.steps": steps}).items():
        set_field(config, field, value)
    return config


def _flags(config: ConfigDict, workdir: Path) -> list[str]:
    """The same as flags of `rtj.main`."""
    fields = [*_FIELDS, "train.steps"]
    values = (config[section][name] for section, name in (f.split(".") for f in fields))
    return [
        f"--config={config_file('ablation')}:{_ROW}",
        f"--workdir={workdir}",
        *(f"--config.{f}={v}" for f, v in zip(fields, values, strict=True)),
    ]


def run(argv: Sequence[str]) -> int:
    """One command, from its arguments to its exit code."""
    return run_tool(_command, _parser(), argv)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
