"""Plans a run on a TPU slice, on a machine that has none.

    python -m rtj.plan --config=configs/ablation.py:efficient,data=imagenet \\
        --topology=v5e:16x16 [--batch=8192] [--config.section.key=value ...]
        [--compare=CONFIG] [--search] [--scaling] [--traffic=N]
        [--growth [--figure=F.png]] [--json]

The real train step is compiled for every chip of the slice by the TPU compiler, which
`pip install 'rtj[plan]'` installs on any machine; nothing is run and no data is
needed. The plan says whether the step fits into a chip's memory, what it computes,
moves and exchanges, and how fast it can be at best: a bound, not a measurement.

`--topology` is v4, v5e, v5p or v6e and a shape, as v5e:16x16 or v4:4x4x8. `--batch`
sets train.batch_size. `--search` finds the largest power of two that fits, `--scaling`
keeps the images a chip and goes from 8 to 256 chips, `--traffic` says what moves the
bytes, by phase and kind and the N largest alone, `--growth` goes through batches of 256
to 32,768 on 8 to 256 chips and says from which on the exchange of the gradients can
hide behind the backward pass (a compilation for each number of images a chip, thirteen;
several groups of a chip are micro-batches), `--figure` draws that, `--compare` puts
another config beside this one; `--batch` and `--config.section.key=value` hold for
both. With `--json` the last line of stdout is one JSON object; see
`rtj.plan.planning.Plan`.

ResNet-50-D (the row `efficient`), compiled here with libtpu 0.0.52 and JAX 0.10.2:

| batch, slice | memory a chip | all-reduces | step_s | images/s |
|---|---|---|---|---|
| 1024, v5e:2x4 | 3.35 GiB | 2 | 0.0289 | 35,400 |
| 8192, v5e:2x4 | does not fit; 4096 does | | | |
| 2048, v5e:2x4, `train.accumulate=2` | 3.41 GiB | 3 | 0.0579 | 35,400 |
| 1024, v5e:16x16 | 0.64 GiB | 105 | 0.0020 | 517,000 |

A compilation took one to four minutes, more on busy cores; one that does not fit, 13 s;
`--search` from batch 1024 on v5e:2x4, four of them.

Exit codes: 0 done, also if the step does not fit; 2 bad config or flags, or libtpu is
not installed; 5 data of unknown size are not there.
"""

import json
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rtj import tool
from rtj.errors import ConfigError
from rtj.main import parse
from rtj.plan.aot import Compiled, TooLarge, compile_step, prepare_host
from rtj.plan.chips import Topology, parse_topology
from rtj.plan.growth import plan_growth
from rtj.plan.growth_figure import describe_growth, plot_growth
from rtj.plan.planning import Compile, Plan, find_max_batch, make_plan, plan_scaling
from rtj.plan.table import (
    describe,
    describe_comparison,
    describe_scaling,
    describe_traffic,
)
from rtj.study.figures import figure_type


def make_parser() -> tool.Parser:
    """The flags, but `--config.section.key=value`, which `rtj.main` reads."""
    parser = tool.Parser(prog="python -m rtj.plan", description=__doc__)
    parser.add_argument("--config", default="", help="FILE.py[:row,key=value,...]")
    parser.add_argument("--topology", required=True, help="v5e:16x16, v4:4x4x8, ...")
    parser.add_argument("--batch", type=int, default=0, help="images a step")
    parser.add_argument("--compare", default="", help="another config")
    parser.add_argument("--search", action="store_true", help="find the largest batch")
    parser.add_argument("--scaling", action="store_true", help="8 to 256 chips")
    parser.add_argument("--traffic", type=int, default=0, help="what moves the bytes")
    parser.add_argument("--growth", action="store_true", help="batches and slices")
    parser.add_argument("--figure", default="", help="of --growth, a .png or .svg")
    parser.add_argument("--json", action="store_true", help="JSON in the last line")
    parser.set_defaults(overrides=())
    return parser


def read_config(text: str, arguments: Namespace) -> ConfigDict:
    """The config `text` with what the flags set, checked."""
    flags = [f"--config={text}"] if text else []
    if arguments.batch:
        flags.append(f"--config.train.batch_size={arguments.batch}")
    return parse(["rtj.plan", *flags, *arguments.overrides])[1]


def plan_all(config: ConfigDict, topology: Topology, arguments: Namespace) -> Plan:
    """The plan of one config, with the searches that were asked for."""
    compiler = each_once(announced)
    plan = make_plan(config, topology, compiler)
    if arguments.search:
        largest = find_max_batch(config, topology, plan, compiler)
        plan = replace(plan, max_batch=largest)
    if arguments.scaling:
        rows = plan_scaling(config, topology, plan, compiler)
        plan = replace(plan, scaling=rows)
    if arguments.growth:
        plan = replace(plan, growth=plan_growth(config, topology, compiler))
    return plan


def announced(config: ConfigDict, topology: Topology) -> Compiled | TooLarge:
    """`compile_step`, which takes minutes, with a word on stderr."""
    batch = config.train.batch_size
    print(f"rtj: compiling batch {batch} for {topology.name}", file=sys.stderr)
    return compile_step(config, topology)


def each_once(compiler: Compile) -> Compile:
    """`compiler`, which compiles a config for a slice the first time only."""
    kept: dict[tuple[str, str], Compiled | TooLarge] = {}

    def compile_(config: ConfigDict, topology: Topology) -> Compiled | TooLarge:
        key = (str(config), topology.name)
        if key not in kept:
            kept[key] = compiler(config, topology)
        return kept[key]

    return compile_


def run(arguments: Namespace) -> int:
    """Plans, prints tables, and returns the exit code."""
    _check(arguments)
    topology = parse_topology(arguments.topology)
    texts = [arguments.config, *filter(None, [arguments.compare])]
    configs = [read_config(text, arguments) for text in texts]
    prepare_host()
    plans = []
    for config in configs:
        plans.append(plan_all(config, topology, arguments))
        print(describe(plans[-1], topology, arguments.search), flush=True)
        if arguments.traffic and plans[-1].fits:
            print(f"\n{describe_traffic(plans[-1], arguments.traffic)}", flush=True)
        if plans[-1].scaling is not None:
            print(f"\n{describe_scaling(plans[-1].scaling)}", flush=True)
        if plans[-1].growth is not None:
            print(f"\n{describe_growth(plans[-1].growth)}", flush=True)
        print(flush=True)
    if arguments.figure:
        plot_growth(plans[0].growth or [], Path(arguments.figure))
    if arguments.compare:
        print(f"{describe_comparison(*plans)}\n")
    if arguments.json:
        print(json.dumps(to_json(plans)))
    return 0


def _check(arguments: Namespace) -> None:
    if arguments.traffic < 0:
        raise ConfigError(f"--traffic={arguments.traffic}; allowed: 0 or more")
    if not arguments.figure:
        return
    out = Path(arguments.figure)
    if not arguments.growth:
        raise ConfigError("--figure draws --growth, which is not asked for")
    if out.suffix not in (".png", ".svg") or not out.parent.is_dir():
        raise ConfigError(
            f"--figure={out}; allowed: a .png or .svg file in a folder that is there"
        )
    figure_type()


def to_json(plans: list[Plan]) -> dict[str, Any]:
    """The first plan's fields, the second's under `compare`."""
    first, *others = (asdict(plan) for plan in plans)
    for plan in (first, *others):
        for name in ("scaling", "growth"):
            if plan[name] is None:
                del plan[name]
    return first | ({"compare": others[0]} if others else {})


def main(argv: Sequence[str]) -> int:
    """Runs the tool and returns its exit code."""
    is_override = re.compile(r"--?config\.").match
    parser = make_parser()
    parser.set_defaults(overrides=tuple(filter(is_override, argv)))
    return tool.run_tool(run, parser, [a for a in argv if not is_override(a)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
