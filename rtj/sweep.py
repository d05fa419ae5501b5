"""Runs whole tables of the paper: their rows, times seeds.

    python -m rtj.sweep --table=4 [--config=configs/ablation.py[:key=value,...]]
        [--seeds=3] [--rows=a,b] [--columns=a,b|all] [--workdir=D]
        [--backbones=W] [--data=NAME]
        [--config.section.key=value ...] [--dry-run[=flags]] [--json]

    python -m rtj.sweep --table=4,6 --seeds=3 --workdir=runs/digits
    python -m rtj.report runs/digits --out=runs/digits-report
    python -m rtj.sweep --table=8 --backbones=runs/{row} --workdir=runs/voc

Each run is what `python -m rtj.main` would do, in the folder D/ROW-seedS, one after the
other in this process; its output is D/logs/ROW-seedS.log. The same command again skips
finished runs and goes on with the others; a run that fails does not stop those after
it. Rows with distillation learn from runs `teacher` and `teacher_mixup`, which are
trained first, once for all seeds, unless `teacher=` is among the keys.

`data=auto` is ImageNet where it is prepared. On the built-in digits a sweep trains on
1,000 of the 4,000 images (`images=4000` for all), on which the rows differ by more than
seeds do, and leaves out the columns of other networks (`--columns=all` takes them).

Tables 8 and 9 are detection and segmentation, each row on its own classifier. W says
which: a path with `{row}` in it, as `runs/{row}` for runs/b_standard, runs/d_efficient,
runs/cosine, runs/smooth, runs/distill, runs/mixup and runs/distill_mixup; or one path
for all (with `--rows`, as only classifiers of the row's network fit). NAME is the data
instead of Pascal VOC or ADE20K; on `scenes`, for a laptop, `--backbones=none` starts
from random weights, of which there is one run a network.

For a cluster, `--dry-run` prints the commands, and `--dry-run=flags` their flags, one
run a line, as launch/slurm.sbatch takes them in ROWS_FILE. Teachers come first and must
be finished before their students start: `--rows=teacher,teacher_mixup` makes these
alone.

Exit codes: 0 all done; 2 bad flags, nothing run; 3 stopped by a signal, after saving;
else that of the first run that failed. With --json the last line is one JSON object:
done, failed, stopped (names of runs), seconds, workdir.
"""

import json
import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rtj import tool
from rtj.errors import ConfigError, Stopped
from rtj.study.backbones import check_backbones, data_of
from rtj.study.cells import task_of
from rtj.study.metrics import CLASSIFICATION
from rtj.study.sweep_plan import Choice, Common, Planned, arguments, choose_keys, plan
from rtj.study.sweep_run import Outcome, run_all
from rtj.study.sweep_table import SweepTable


def make_parser() -> tool.Parser:
    """The flags, but `--config.section.key=value`, which `rtj.main` reads."""
    parser = tool.Parser(prog="python -m rtj.sweep", description=__doc__)
    parser.add_argument("--table", required=True, help="numbers of tables, as 4,6")
    parser.add_argument("--config", default="configs/ablation.py")
    parser.add_argument("--rows", default="", help="only these")
    parser.add_argument("--columns", default="", help="only these, or all")
    parser.add_argument("--seeds", type=int, default=1, help="of each row, from 0")
    parser.add_argument("--workdir", default="", help="default: runs/sweep-DATA")
    parser.add_argument("--backbones", default="", help="of tables 8 and 9")
    parser.add_argument("--data", default="", help="of tables 8 and 9")
    parser.add_argument(
        "--dry-run", nargs="?", const="commands", choices=["commands", "flags"]
    )
    parser.add_argument("--json", action="store_true")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line; returns the exit code."""
    overrides = tuple(arg for arg in argv if arg.startswith("--config."))
    rest = [arg for arg in argv if arg not in overrides]
    return tool.run_tool(lambda o: _sweep(o, overrides), make_parser(), rest)


def _sweep(options: Namespace, overrides: tuple[str, ...]) -> int:
    runs, workdir = _planned(options, overrides)
    if options.dry_run:
        _print_commands(runs, options.dry_run == "flags")
        return 0
    print(f"{len(runs)} runs in {workdir}")
    outcomes = run_all(runs, workdir, SweepTable([run.name for run in runs]))
    failed = [o for o in outcomes if o.code not in (0, Stopped.exit_code)]
    print(_summary(outcomes, failed, workdir))
    if options.json:
        print(json.dumps(_as_json(outcomes, failed, workdir)))
    if any(o.code == Stopped.exit_code for o in outcomes):
        return Stopped.exit_code
    return failed[0].code if failed else 0


def _planned(
    options: Namespace, overrides: tuple[str, ...]
) -> tuple[list[Planned], Path]:
    if options.seeds < 1:
        raise ConfigError(f"--seeds={options.seeds} is not allowed; allowed: 1 or more")
    file, _, text = options.config.partition(":")
    keys, size = choose_keys(text)
    choice = Choice(
        _table_numbers(options.table), _names(options.rows), _names(options.columns)
    )
    found = arguments(choice, other_networks=size.study_images is None)
    _check_data(found, options.data, text)
    check_backbones(found, options.data, options.backbones)
    data = keys["data"]
    if task_of(found[0]) != CLASSIFICATION:
        data = options.data or data_of(found[0])
    name = data.replace(":", "-").replace("/", "-")
    workdir = Path(options.workdir or f"runs/sweep-{name}")
    common = Common(file, keys, overrides, workdir, options.data, options.backbones)
    return plan(found, options.seeds, common), workdir


def _check_data(found: Sequence[str], data: str, text: str) -> None:
    """Each of the two flags that name data must be of a row that is run."""
    tasks = {task_of(argument) for argument in found}
    if data and tasks == {CLASSIFICATION}:
        raise ConfigError(
            f"--data={data} is for tables 8 and 9; others take "
            f"--config=configs/ablation.py:data={data}"
        )
    if CLASSIFICATION not in tasks and re.search(r"(^|,)data=", text):
        raise ConfigError(
            f"data= in --config ({text}) is for tables 1 to 6; tables 8 and 9 take "
            "--data=NAME"
        )


def _table_numbers(text: str) -> tuple[int, ...]:
    names = _names(text)
    if not names or not all(name.isdecimal() for name in names):
        raise ConfigError(f"--table={text!r} is not allowed; allowed: numbers, as 4,6")
    return tuple(int(name) for name in names)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _print_commands(runs: Sequence[Planned], only_flags: bool) -> None:
    program = [] if only_flags else ["python", "-m", "rtj.main"]
    for run in runs:
        command = [*program, *run.flags, f"--workdir={run.workdir}"]
        print(" ".join(command) if only_flags else shlex.join(command))


def _summary(
    outcomes: Sequence[Outcome], failed: Sequence[Outcome], workdir: Path
) -> str:
    done = sum(o.code == 0 for o in outcomes)
    minutes = sum(o.seconds for o in outcomes) / 60
    lines = [f"{done} done, {len(failed)} failed, {minutes:.1f} min in this session"]
    lines += [f"failed: {o.name}: {o.error}" for o in failed]
    lines.append(f"python -m rtj.report {workdir} --out={workdir}-report")
    return "\n".join(lines)


def _as_json(
    outcomes: Sequence[Outcome], failed: Sequence[Outcome], workdir: Path
) -> dict[str, object]:
    return {
        "done": [o.name for o in outcomes if o.code == 0],
        "failed": [o.name for o in failed],
        "stopped": [o.name for o in outcomes if o.code == Stopped.exit_code],
        "seconds": sum(o.seconds for o in outcomes),
        "workdir": str(workdir),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
