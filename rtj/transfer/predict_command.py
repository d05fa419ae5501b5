"""`rtj.predict` for segmentation and detection: pictures, masks and a report."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rtj.errors import ConfigError, DataError
from rtj.transfer.predict import Seen, picture, predict
from rtj.transfer.trained import Trained

Report = dict[str, Any]


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
        best first); and the images that cannot be read.

    Raises:
        ConfigError: `out` cannot be written.
    """
    names = _file_names(paths)
    reports: dict[int, Report] = {}
    failed: list[tuple[Path, DataError]] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for index, seen in predict(trained, paths, batch=batch) if paths else ():
            path = paths[index]
            if isinstance(seen, DataError):
                failed.append((path, seen))
                continue
            target = out / f"{names[index]}.png"
            picture(trained, path, seen, score).save(target)
            reports[index] = {"path": str(path), "picture": str(target)} | (
                _masked(trained, seen, out / f"{names[index]}.mask.png")
                if "mask" in seen
                else _detected(trained, seen, score)
            )
    except OSError as error:
        raise ConfigError(f"--out={str(out)!r} cannot be written: {error}") from error
    return [reports[index] for index in sorted(reports)], failed


def describe(report: Report) -> str:
    """A report as a few lines for people."""
    lines = [f"{report['path']} -> {report['picture']}"]
    for found in report.get("classes", []):
        lines.append(f"  {found['share']:7.2%}  {found['name']}")
    for found in report.get("detections", []):
        box = ", ".join(f"{side:.0f}" for side in found["box"])
        lines.append(f"  {found['score']:7.2%}  {found['name']}  at {box}")
    return "\n".join(lines)


def _file_names(paths: list[Path]) -> list[str]:
    """Names without suffix; of images of one name the later ones have a number."""
    taken: dict[str, int] = {}
    names = []
    for path in paths:
        count = taken[path.stem] = taken.get(path.stem, 0) + 1
        names.append(path.stem if count == 1 else f"{path.stem}-{count}")
    return names


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
