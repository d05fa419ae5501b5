"""`rtj.predict` for segmentation and detection: pictures, masks and a report."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rtj.errors import ConfigError, DataError
from rtj.transfer.predict import Seen, picture, predict
from rtj.transfer.trained import Trained

Report = dict[str, Any]
_MASK = ".mask.png"


def predict_files(
    trained: Trained, paths: list[Path], out: Path, *, batch: int, score: float
) -> tuple[list[Report], list[tuple[Path, DataError]]]:
    """Writes a picture of each image into `out`, and of segmentation the mask too.

    The mask is a PNG of one byte a pixel, the number of the class.

    Args:
        score: the least score of a detection that is drawn and reported.

    Returns:
        In the order of `paths`, of each image `path`, `picture`, and either `mask` and
        `classes` (`class`, `name` and `share` of the pixels, falling), or
        `detections` (`class`, `name`, `score` and `box`: x1, y1, x2, y2 in pixels,
        best first); and the images that cannot be read, with why.

    Raises:
        ConfigError: `out` cannot be written, or an image would be overwritten.
    """
    targets = [out / f"{name}.png" for name in file_names(paths)]
    _check_inputs_stay(paths, targets, out)
    reports: dict[int, Report] = {}
    failed: dict[int, DataError] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for index, seen in predict(trained, paths, batch=batch) if paths else ():
            path = paths[index]
            if isinstance(seen, DataError):
                failed[index] = seen
                continue
            target = targets[index]
            picture(trained, path, seen, score).save(target)
            reports[index] = {"path": str(path), "picture": str(target)} | (
                _masked(trained, seen, target.with_suffix(_MASK))
                if "mask" in seen
                else _detected(trained, seen, score)
            )
    except OSError as error:
        raise ConfigError(f"--out={str(out)!r} cannot be written: {error}") from error
    return (
        [reports[index] for index in sorted(reports)],
        [(paths[index], failed[index]) for index in sorted(failed)],
    )


def describe(report: Report) -> str:
    """A report as a few lines for people."""
    lines = [f"{report['path']} -> {report['picture']}"]
    for found in report.get("classes", []):
        lines.append(f"  {found['share']:7.2%}  {found['name']}")
    for found in report.get("detections", []):
        box = ", ".join(f"{side:.0f}" for side in found["box"])
        lines.append(f"  {found['score']:7.2%}  {found['name']}  at {box}")
    return "\n".join(lines)


def file_names(paths: list[Path]) -> list[str]:
    """Names without suffix, for a picture NAME.png and a mask NAME.mask.png of each.

    Of images of one name the later ones have a number; no file is another's.
    """
    taken: set[str] = set()
    names = []
    for path in paths:
        name, count = path.stem, 1
        while taken & {f"{name}.png", f"{name}{_MASK}"}:
            count += 1
            name = f"{path.stem}-{count}"
        taken |= {f"{name}.png", f"{name}{_MASK}"}
        names.append(name)
    return names


def _check_inputs_stay(paths: list[Path], targets: list[Path], out: Path) -> None:
    inputs = {path.resolve() for path in paths}
    for target in targets:
        for file in (target, target.with_suffix(_MASK)):
            if file.resolve() in inputs:
                raise ConfigError(
                    f"--out={str(out)!r}: {file} would be written over an image that "
                    "is read; allowed: another folder"
                )


def _masked(trained: Trained, seen: Seen, target: Path) -> Report:
    mask = seen["mask"]
    Image.fromarray(mask).save(target)
    labels, counts = np.unique(mask, return_counts=True)
    order = np.argsort(-counts, kind="stable").tolist()
    return {
        "mask": str(target),
        "classes": [
            {
                "class": int(labels[k]),
                "name": trained.class_names[labels[k]],
                "share": float(counts[k] / mask.size),
            }
            for k in order
        ],
    }


def _detected(trained: Trained, seen: Seen, score: float) -> Report:
    rows = zip(seen["labels"], seen["scores"], seen["boxes"], strict=True)
    return {
        "detections": [
            {
                "class": int(label),
                "name": trained.class_names[label],
                "score": float(its),
                "box": [float(side) for side in box],
            }
            for label, its, box in rows
            if its >= score
        ]
    }
