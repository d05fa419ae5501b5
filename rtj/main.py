"""The command line: flags only; everything it calls works without it.

    python -m rtj.main --config=configs/ablation.py:zero_gamma [--workdir=D]
        [--mode=train|eval] [--checkpoint=D] [--config.section.key=value ...]
        [--profile=START:STOP] [--compile_cache=auto|off]
        [--distributed=auto|on|off]
        [--coordinator=HOST:PORT --processes=N --process=I]

A run of several processes starts the same command in each. On a TPU pod, under SLURM,
Open MPI or Kubernetes they find each other (--distributed=off keeps each alone, on
makes it an error if they do not); elsewhere give the address of process 0, the number
of processes and which one this is. Process 0 writes and prints; an error of one ends
all, and a signal to one stops all at the same step.

Compiled programs are kept in .jax-cache beside the workdir, for all runs there, unless
JAX_COMPILATION_CACHE_DIR is set or --compile_cache=off.

SIGTERM, SIGINT or SIGUSR1 while it trains, compiles, evaluates or saves: the run saves
and ends with 3, and the same command goes on. A second one ends it at once, and the
last checkpoint stays. One that comes earlier, while data and network are prepared, ends
it at once with no step trained and no checkpoint written.

Exit codes: 0 done, 2 bad config or flags (nothing written), 3 stopped by a signal
after saving, 4 diverged, 5 data, 6 checkpoint, 7 no progress for train.stall_s (600 s,
0 switches it off), or another process of the run did not come or answer in time, 8 a
compiled program that was kept is not the code's (it is not used again). When
a process is killed, the others end within about 30 s, with 134 (or 1). The last line
on stdout is one JSON object: step, epoch, top1, top5 (fractions of 1), loss, examples,
images_per_s, workdir; in place of top1 and top5 segmentation has mean_iou and
pixel_accuracy, detection has map.
"""

import functools
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from rtj.compile_cache import keep_compiled
from rtj.config import check, config_hash
from rtj.distributed import end_stalled, find_cluster, joined
from rtj.errors import ConfigError, RtjError, unknown
from rtj.fields import ALL_FIELDS
from rtj.garbage import collection_paused
from rtj.profile import parse_profile
from rtj.stop import end_at_second_signal
from rtj.tool import print_any_name


def parse(argv: Sequence[str]) -> tuple[flags.FlagValues, ConfigDict]:
    """The flags of one command line and its config, checked.

    Raises:
        ConfigError: a flag, a row, a key or a value is not allowed.
    """
    try:
        values, rest, config = _read(list(argv))
    except ConfigError:
        raise
    except KeyError as error:  # of ml_collections, for a section that is not there
        raise ConfigError(
            f"--config has no section {_one_line(error)}, which is another task's"
        ) from error
    except (flags.Error, TypeError, ValueError, OSError) as error:
        raise ConfigError(_one_line(error)) from error
    except Exception as error:  # the file is a program, which may be any or none
        raise ConfigError(
            f"--config cannot be read: {type(error).__name__}: {_one_line(error)}"
        ) from error
    if len(rest) > 1:
        raise ConfigError(f"argument {rest[1]!r} is not a flag; flags start with --")
    if config is None:
        raise ConfigError("--config is missing: --config=FILE.py[:row,key=value,...]")
    return values, config


def _read(argv: list[str]) -> tuple[flags.FlagValues, list[str], ConfigDict | None]:
    """The flags, what is none of them, and the config, checked."""
    values = flags.FlagValues()
    config_flag = config_flags.DEFINE_config_file(
        "config",
        None,
        "FILE.py[:row,key=value,...]",
        flag_values=values,
        sys_argv=argv,
    )
    flags.DEFINE_string("workdir", "", "Folder of the run.", flag_values=values)
    flags.DEFINE_enum(
        "mode", "train", ["train", "eval"], "What to do.", flag_values=values
    )
    flags.DEFINE_string(
        "checkpoint",
        "",
        "Checkpoint folder for --mode=eval; empty: the workdir's.",
        flag_values=values,
    )
    _define_execution_flags(values)
    for field in _overridden(argv):
        if field not in ALL_FIELDS:
            raise unknown("config field", field, ALL_FIELDS)
    rest = values(argv)
    config = config_flag.value
    if config is not None:
        check(config)  # a file that cannot be read raises here, its OSError
    return values, rest, config


def _define_execution_flags(values: flags.FlagValues) -> None:
    """How and where to run, which changes no result."""

    def text(name: str, help: str) -> None:
        flags.DEFINE_string(name, "", help, flag_values=values)

    def choice(name: str, default: str, allowed: list[str], help: str) -> None:
        flags.DEFINE_enum(name, default, allowed, help, flag_values=values)

    def number(name: str, default: int, help: str) -> None:
        flags.DEFINE_integer(name, default, help, flag_values=values)

    text("profile", "START:STOP, steps to trace into WORKDIR/profile.")
    choice("compile_cache", "auto", ["auto", "off"], "Keep compiled programs.")
    choice("distributed", "auto", ["auto", "on", "off"], "Find other processes.")
    text("coordinator", "HOST:PORT of process 0.")
    number("processes", 0, "How many there are.")
    number("process", -1, "Which one this is, from 0.")


def _overridden(argv: Sequence[str]) -> list[str]:
    """The fields that `--config.FIELD=...` flags name."""
    found = (re.match(r"--?config\.([^=]*)", argument) for argument in argv)
    return [match[1] for match in found if match]


def default_workdir(config: ConfigDict) -> Path:
    """`runs/NAME-DATA-HASH`: one folder for each config that computes the same."""
    name = f"{config.name}-{config.data.name}-{config_hash(config)}"
    return Path("runs") / name.replace(":", "-").replace("/", "-")


def run(argv: Sequence[str]) -> int:
    """One command, from its arguments (the program's name first) to its exit code."""
    print_any_name()
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return 0
    try:
        values, config = parse(argv)
        workdir = Path(values.workdir) if values.workdir else default_workdir(config)
        profile = parse_profile(values.profile)
        if values.checkpoint and values.mode != "eval":
            raise ConfigError("--checkpoint goes with --mode=eval only")
        if profile is not None and values.mode != "train":
            raise ConfigError("--profile goes with --mode=train only")
        cluster = find_cluster(
            values.coordinator, values.processes, values.process, values.distributed
        )
        programs = None
        if values.compile_cache == "auto":
            programs = keep_compiled(workdir.absolute().parent)
        on_stall = functools.partial(end_stalled, cluster)
        with end_at_second_signal(), joined(cluster, config.mesh.wait_s):
            if values.mode == "eval":
                from rtj.evaluation import evaluate

                result = evaluate(config, workdir, values.checkpoint, on_stall=on_stall)
            else:
                with collection_paused():
                    from rtj.loop import train
                result = train(
                    config,
                    workdir,
                    profile=profile,
                    on_stall=on_stall,
                    programs=programs,
                )
    except RtjError as error:
        print(f"rtj: {_one_line(error)}", file=sys.stderr)
        return error.exit_code
    if cluster is None or cluster.index == 0:
        print(json.dumps(result), flush=True)
    return 0


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(run(sys.argv))
