"""One picture of what runs of segmentation and detection see in held-out images.

    python -m rtj.transfer.sheet WORKDIR... [--count=6] [--score=0.5] [--out=sheet.png]

A row a run: the first images of its held-out split, with boxes of at least --score or
under the colours of the classes. The data set must be there.

Exit codes: 0 done, 2 bad flags, 5 data that are not there, 6 no checkpoint.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from PIL import Image

from rtj.atomic_file import new_file
from rtj.errors import ConfigError
from rtj.task import task_of
from rtj.tool import Parser, run_tool
from rtj.transfer.draw import contact_sheet
from rtj.transfer.examples import SizedSource
from rtj.transfer.file_images import rgb_pixels
from rtj.transfer.parts import Part
from rtj.transfer.predict import draw, predict_source
from rtj.transfer.trained import open_trained, run_config


def held_out_pictures(workdir: Path, count: int, score: float) -> list[Image.Image]:
    """The first `count` held-out images of a run with what it sees in them, without
    those that cannot be decoded.

    Raises:
        CheckpointError: there is no run of segmentation or detection.
        DataError: its data set is not there.
    """
    config = run_config(workdir)
    if config.task == "classification":
        raise ConfigError(
            f"{str(workdir)!r} is a run of classification; allowed: segmentation, "
            "detection"
        )
    trained = open_trained(workdir)
    _, held_out = task_of(config).open_data(config)
    source: Any = Part(cast(SizedSource[Any], held_out), ("", str(count)))
    seen = dict(predict_source(trained, source))
    pictures = []
    for index, found in sorted(seen.items()):
        if found is not None:
            example = source[index]
            pixels = rgb_pixels(example["image"], example["id"])
            pictures.append(draw(trained, pixels, found, score))
    return pictures


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m rtj.transfer.sheet", description=__doc__)
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", type=Path)
    parser.add_argument("--count", type=int, default=6, help="images a run")
    parser.add_argument("--score", type=float, default=0.5, help="least one of a box")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"))
    return parser


def _command(args: argparse.Namespace) -> int:
    if args.count < 1:
        raise ConfigError(f"--count={args.count} is not allowed; allowed: 1 or more")
    pictures = [
        image
        for workdir in args.workdirs
        for image in held_out_pictures(workdir, args.count, args.score)
    ]
    try:
        with new_file(args.out, force=True) as partial:
            contact_sheet(pictures, args.count).save(partial, "png")
    except OSError as error:
        raise ConfigError(
            f"--out={str(args.out)!r} cannot be written: {error}"
        ) from error
    print(args.out)
    return 0


def run(argv: Sequence[str]) -> int:
    """One command, from its arguments to its exit code."""
    return run_tool(_command, _parser(), argv)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
