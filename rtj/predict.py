"""Images to their five likeliest classes, or to masks or boxes.

    python -m rtj.predict (--weights=W [--model=NAME] | --checkpoint=WORKDIR)
        [--classes=FILE] [--batch=32] [--json] IMAGE...
    python -m rtj.predict --task=detection|segmentation --checkpoint=WORKDIR
        [--out=predictions] [--score=0.5] [--classes=FILE] [--batch=8] [--json] IMAGE...

IMAGE is a file, a folder (all images under it) or a glob. Images are prepared as
the weights say; without metadata as in the paper; which it is, is printed. Class
names come from --classes, the weights or the run's data set.

With --task=detection or segmentation a picture of each image is written to --out,
with the boxes of at least --score, or under the colours of the classes; of segmentation
NAME.mask.png too, a byte a pixel. The images of --json then have `path`, `picture` and
`detections` or `mask` and `classes`, see `rtj.transfer.predict_command`.

With --json the last line on stdout is one object: `model`, `preprocess`,
`images` (a list of `path` and `predictions`: `class`, `name`, `probability`) and
`failed` (`path`, `error`). Images that cannot be read are named, the others still
predicted, and the exit code is then 5. Other codes: 0 done, 2 bad flags, 6
weights cannot be read.
"""

import argparse
import dataclasses
import glob
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rtj.data.image_limits import suffixes as image_suffixes
from rtj.errors import ConfigError, DataError
from rtj.fields import TASKS
from rtj.preprocess import Preprocess, load_image, normalize
from rtj.serving import Network, open_network
from rtj.tool import Parser, add_network_flags, run_tool
from rtj.transfer.predict_command import describe, predict_files
from rtj.transfer.trained import open_trained
from rtj.weights.run_folder import is_run_folder, read_config

TOP = 5

Prediction = dict[str, Any]
Result = list[Prediction] | DataError


def find_images(arguments: Sequence[str]) -> Iterator[tuple[Path, DataError | None]]:
    """The files that arguments mean, in order; an error for those that mean none."""
    suffixes = image_suffixes()
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes)
        elif path.exists() or not glob.has_magic(argument):
            files = [path]
        else:
            files = sorted(Path(p) for p in glob.glob(argument, recursive=True))
        yield from ((file, None) for file in files)
        if not files:
            yield path, DataError(f"{argument!r}: there is no image")


def predict(
    network: Network, paths: Sequence[Path], *, batch: int = 32
) -> Iterator[tuple[Path, Result]]:
    """Each path with its likeliest classes, at most five, or with what is wrong.

    A prediction is `{"class": int, "name": str, "probability": float}`. One
    program runs on batches of one size; the last is padded.
    """
    top = _program(network)
    batch = max(1, min(batch, len(paths)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), batch):
            part = paths[start : start + batch]
            images = list(pool.map(lambda p: _try_load(p, network.preprocess), part))
            good = [image for image in images if isinstance(image, np.ndarray)]
            size = network.preprocess.size
            padded = np.zeros((batch, size, size, 3), np.uint8)
            if good:
                padded[: len(good)] = good
            rows = zip(*jax.device_get(top(padded)), strict=True)
            for path, image in zip(part, images, strict=True):
                if isinstance(image, DataError):
                    yield path, image
                else:
                    yield path, _named(network, *next(rows))


def _try_load(path: Path, how: Preprocess) -> np.ndarray | DataError:
    try:
        return load_image(path, how)
    except DataError as error:
        return error


def _program(
    network: Network,
) -> Callable[[np.ndarray], tuple[jax.Array, jax.Array]]:
    """Images to (probabilities, classes), both (N, at most 5), falling."""

    @jax.jit
    def top(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        pixels = normalize(images, network.preprocess)
        logits: Any = network.model.apply(variables, pixels, train=False)
        return jax.lax.top_k(jax.nn.softmax(logits), min(TOP, logits.shape[-1]))

    return lambda images: top(network.variables, images)


def _named(
    network: Network, probabilities: np.ndarray, classes: np.ndarray
) -> list[Prediction]:
    return [
        {
            "class": int(index),
            "name": network.class_names[index] if network.class_names else str(index),
            "probability": float(probability),
        }
        for probability, index in zip(probabilities, classes, strict=True)
    ]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m rtj.predict", description=__doc__)
    add_network_flags(parser)
    parser.add_argument("--batch", type=int, default=0, help="images at a time")
    parser.add_argument("--task", choices=TASKS, help="default: the checkpoint's")
    parser.add_argument("--out", default="predictions", help="folder of the pictures")
    parser.add_argument("--score", type=float, default=0.5, help="least one of a box")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    return parser


def _command(args: argparse.Namespace) -> int:
    if args.batch < 0:
        raise ConfigError(f"--batch={args.batch} is not allowed; allowed: 1 or more")
    if _task(args) == "classification":
        return _classify(args)
    return _look(args)


def _task(args: argparse.Namespace) -> str:
    """The task of the checkpoint; of weights it is classification."""
    found = "classification"
    if args.checkpoint and not args.weights:
        if not is_run_folder(Path(args.checkpoint)):
            return args.task or found  # whose own error says what is wrong with it
        config = read_config(Path(args.checkpoint))
        found = found if config is None else config.task
    if args.task not in (None, found):
        raise ConfigError(
            f"--task={args.task}, but what is given was trained for {found}; allowed: "
            f"{found}, or --checkpoint=WORKDIR of a run of {args.task}"
        )
    return found


def _classify(args: argparse.Namespace) -> int:
    network = open_network(
        weights=args.weights,
        checkpoint=args.checkpoint,
        model=args.model,
        classes=args.classes,
    )
    how = network.preprocess
    print(f"images ({network.preprocess_from}): {how.describe()}")
    print(f"class names: {network.class_names_from}")
    found = list(find_images(args.images))
    failed = [(path, error) for path, error in found if error]
    done: list[dict[str, Any]] = []
    paths = [path for path, error in found if not error]
    for path, result in predict(network, paths, batch=args.batch or 32):
        if isinstance(result, DataError):
            failed.append((path, result))
            continue
        done.append({"path": str(path), "predictions": result})
        if not args.json:
            _print_table(path, result)
    if args.json:
        report = {
            "model": network.name,
            "preprocess": dataclasses.asdict(how),
            "images": done,
            "failed": [{"path": str(p), "error": str(e)} for p, e in failed],
        }
        print(json.dumps(report), flush=True)
    return _end(failed, len(found))


def _end(failed: list[tuple[Path, DataError]], count: int) -> int:
    for _, error in failed:
        print(f"rtj: {error}", file=sys.stderr)
    if failed:
        raise DataError(f"{len(failed)} of {count} images could not be read")
    return 0


def _look(args: argparse.Namespace) -> int:
    """Segmentation and detection."""
    if args.model:
        raise ConfigError(f"--model={args.model}: the checkpoint says it")
    if not 0 <= args.score <= 1:
        raise ConfigError(f"--score={args.score} is not allowed; allowed: 0 to 1")
    trained = open_trained(Path(args.checkpoint), args.classes)
    found = list(find_images(args.images))
    failed = [(path, error) for path, error in found if error]
    paths = [path for path, error in found if not error]
    batch, out = args.batch or 8, Path(args.out)
    done, unread = predict_files(trained, paths, out, batch=batch, score=args.score)
    failed += unread
    if args.json:
        report = {
            "model": trained.config.model.name,
            "task": trained.config.task,
            "images": done,
            "failed": [{"path": str(p), "error": str(e)} for p, e in failed],
        }
        print(json.dumps(report), flush=True)
    else:
        print("\n".join(describe(report) for report in done))
    return _end(failed, len(found))


def _print_table(path: Path, predictions: list[Prediction]) -> None:
    print(path)
    for prediction in predictions:
        print(f"  {prediction['probability']:7.2%}  {prediction['name']}")


def run(argv: Sequence[str]) -> int:
    """One command, from its arguments to its exit code."""
    return run_tool(_command, _parser(), argv)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
