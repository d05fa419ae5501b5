"""Looks at data sets, checks them, and converts them for training; no TensorFlow.

    python -m rtj.data.prepare show [--data_dir=D] [--json]
    python -m rtj.data.prepare verify NAME [--decode] [--splits=S,...] [--workers=N]
        [--data_dir=D] [--json]
    python -m rtj.data.prepare convert SOURCE [--name=NAME] [--splits=S,...]
        [--short_side=N] [--quality=Q] [--restart_blocks=B] [--shard_mb=256]
        [--workers=N] [--data_dir=D] [--json]

D is the TFDS data dir, by default $TFDS_DATA_DIR or TFDS's own.

`show` lists what lies there, what `data=auto` would be, and what interrupted
preparations left.

`verify` counts the images of each split and class of a data set, named as in the
config: imagenet, digits, tfds:NAME, folder:PATH, tar:PATH. ImageNet must have its
1,281,167 and 50,000 images, each in its class. With --decode it decodes every image.

`convert` writes D/NAME/1.0.0, a TFDS data set of ArrayRecord files, from folder:PATH,
tar:PATH or a prepared set such as tfds:NAME. With --name=imagenet2012 it is what
`data=imagenet` opens. A set of TFRecord files (tfds:NAME, or tfrecord:PATH with PATH
the folder of a version) gets ArrayRecord files beside them, record by record; with
--name they go to a set of that name. Interrupted, the same command goes on. Images
are copied as they are, in the source's order, unless one of these flags is given:

--short_side=N      images with a larger shorter side are reduced to N (Lanczos), and
                    all others that are no RGB or grey JPEG become one.
--quality=Q         of these JPEGs, by default 92.
--restart_blocks=B  restart markers every B or more blocks, so that the decoder skips
                    what is outside a crop. With --short_side reduced images have them
                    anyway, at 4 (0: none). Given, every JPEG is written again, those
                    not reduced with their own quality: near the original, not the same.

What these cost in pixels stands in `rtj/data/prepare/reencode.py`; what they cost in
accuracy was not measured.

With --json the last line on stdout is one object. Exit codes: 0 done, 2 bad flags or
a name that is taken, 3 stopped by Ctrl-C, 5 something is missing, wrong or unreadable,
or the disk is full.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rtj.data import sources, tfds_source
from rtj.data.prepare import convert_tfrecord, inventory
from rtj.data.prepare.convert import Settings, convert, open_splits
from rtj.data.prepare.imagenet_check import name_some
from rtj.data.prepare.reencode import QUALITY, RESTART_BLOCKS, Reencoding
from rtj.data.prepare.tfds_info import has_array_record
from rtj.data.prepare.verify import Report, verify
from rtj.errors import ConfigError, DataError, Stopped
from rtj.tool import Parser, run_tool


class _Parser(Parser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self.format_usage()}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m rtj.data.prepare", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="list the data sets")
    check = commands.add_parser("verify", help="count and check a data set")
    make = commands.add_parser("convert", help="write a TFDS data set")
    check.add_argument("name", metavar="NAME", help="a data set, as in the config")
    check.add_argument("--decode", action="store_true", help="decode every image")
    make.add_argument("source", metavar="SOURCE", help="a data set, or tfrecord:PATH")
    make.add_argument("--name", default="", help="of the new data set")
    make.add_argument("--short_side", type=int, help="pixels")
    make.add_argument("--quality", type=int, help=f"of JPEG, 1 to 100; {QUALITY}")
    make.add_argument("--restart_blocks", type=int, help="0: no restart markers")
    make.add_argument("--shard_mb", type=float, default=256, help="MiB, about")
    for command in (check, make):
        command.add_argument("--splits", default="", help="comma-separated; all")
        command.add_argument(
            "--workers", type=int, default=os.cpu_count() or 1, help="threads"
        )
    for command in (show, check, make):
        command.add_argument("--data_dir", default="", help="the TFDS data dir")
        command.add_argument("--json", action="store_true", help="end with one object")
    return parser


def _show(args: argparse.Namespace) -> dict[str, Any]:
    prepared, leftovers = inventory.take_inventory(args.data_dir)
    auto = sources.resolve_auto(args.data_dir)
    root = tfds_source.tfds_dir(args.data_dir)
    rows = [("data set", "version", "examples", "format", "size")]
    for found in prepared:
        name = f"{found.name}/{found.config}" if found.config else found.name
        counts = ", ".join(f"{s} {n:,}" for s, n in found.splits.items())
        formats = ", ".join(found.formats)
        rows.append((name, found.version, counts, formats, _size(found.bytes)))
    print(f"TFDS data dir: {root}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
    print(f"data=auto is {auto}")
    for left in leftovers:
        print(f"unfinished: {left.path} ({_size(left.bytes)}), {left.what}")
    return {
        "data_dir": root,
        "auto": auto,
        "prepared": [dataclasses.asdict(found) for found in prepared],
        "leftovers": [dataclasses.asdict(left) for left in leftovers],
    }


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"


def _verify(args: argparse.Namespace) -> Report:
    report = verify(
        args.name,
        args.data_dir,
        _names(args.splits),
        decode=args.decode,
        workers=args.workers,
    )
    for split, part in report.splits.items():
        empty = part.empty_classes(report.class_names)
        print(
            f"{split}: {part.examples:,} images, {part.counts.min():,} to "
            f"{part.counts.max():,} in each of {len(part.counts):,} classes"
            + (f", {part.unlabelled:,} without a label" if part.unlabelled else "")
            + (f"; none in {name_some(empty)}" if empty else "")
        )
    for problem in report.problems:
        print(f"wrong: {problem}")
    return report


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _convert(args: argparse.Namespace) -> dict[str, Any]:
    how = _reencoding(args)
    folder = _tfrecord_folder(args)
    if folder is not None:
        if how is not None or args.splits:
            raise ConfigError(
                f"{args.source} holds TFRecord files, whose records are copied as they "
                "are; leave --splits, --short_side, --quality and --restart_blocks out"
            )
        if args.name:
            done = convert_tfrecord.copy_as(
                folder, args.name, args.data_dir, workers=args.workers
            )
        else:
            done = convert_tfrecord.copy_in_place(folder, workers=args.workers)
    elif not args.name:
        raise ConfigError("--name is missing: what the new data set is called")
    else:
        opened = open_splits(args.source, args.data_dir, _names(args.splits))
        settings = Settings(how, args.shard_mb, args.workers)
        done = convert(args.source, opened, args.name, args.data_dir, settings)
    counts = ", ".join(f"{split} {n:,}" for split, n in done["splits"].items())
    print(
        f"{done['folder']}: {counts}, {done['shards']} shards, {_size(done['bytes'])}"
        + (f", {done['reencoded']:,} images re-encoded" if how else "")
    )
    if done["undecodable"]:
        print(
            f"{len(done['undecodable']):,} images cannot be decoded and were kept as "
            f"they are: {name_some(done['undecodable'])}"
        )
    print(f"train on it with data={done['data_set']}")
    return done


def _reencoding(args: argparse.Namespace) -> Reencoding | None:
    """What the flags ask for, None to copy images."""
    if args.quality is not None and args.short_side is None:
        raise ConfigError(f"--quality={args.quality} needs --short_side")
    every = bool(args.restart_blocks)
    if args.short_side is None and not every:
        return None
    return Reencoding(
        short_side=args.short_side,
        quality=QUALITY if args.quality is None else args.quality,
        restart_blocks=(
            RESTART_BLOCKS if args.restart_blocks is None else args.restart_blocks
        ),
        every_jpeg=every,
    )


def _tfrecord_folder(args: argparse.Namespace) -> Path | None:
    """The folder of a data set of TFRecord files, None for any other source."""
    kind, _, path = args.source.partition(":")
    if kind == "tfrecord":
        return Path(path).expanduser()
    name = "imagenet2012" if args.source == "imagenet" else path
    if args.source != "imagenet" and kind != "tfds":
        return None
    found = [Path(p) for p in tfds_source.find_prepared(name, args.data_dir)]
    if found and not any(has_array_record(p) for p in found):
        return found[0]
    if found and not args.name:
        raise ConfigError(
            f"{args.source} has ArrayRecord files already; --name=NAME writes another "
            "data set from it"
        )
    return None


def _command(args: argparse.Namespace) -> int:
    if getattr(args, "workers", 1) < 1:
        raise ConfigError(
            f"--workers={args.workers} is not allowed; allowed: 1 or more"
        )
    if getattr(args, "shard_mb", 1) <= 0:
        raise ConfigError(
            f"--shard_mb={args.shard_mb} is not allowed; allowed: above 0"
        )
    problems: list[str] = []
    fix = ""
    try:
        if args.command == "verify":
            report = _verify(args)
            result, problems, fix = report.as_json(), report.problems, report.fix
        else:
            result = {"show": _show, "convert": _convert}[args.command](args)
    except KeyboardInterrupt as stop:
        raise Stopped("stopped; the same command goes on") from stop
    if args.json:
        print(json.dumps(result), flush=True)
    if problems:
        raise DataError(
            f"{args.name} has {len(problems)} problems, the first: {problems[0]}. To "
            f"fix it: {fix}"
        )
    return 0


def run(argv: Sequence[str]) -> int:
    """One command, from its arguments to its exit code."""
    return run_tool(_command, _parser(), argv)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
