"""Objects of images in arrays of one length, the rest of which is empty."""

import numpy as np

from rtj.data.prefetch import Batch
from rtj.transfer.detection.objects import BoxExample
from rtj.transfer.examples import Noted


def empty_rows(rows: int, max_objects: int) -> Batch:
    """Room for the objects of `rows` images: no box, label 0, `objects` False."""
    return {
        "boxes": np.zeros((rows, max_objects, 4), np.float32),
        "labels": np.zeros((rows, max_objects), np.int32),
        "objects": np.zeros((rows, max_objects), bool),
        "difficult": np.zeros((rows, max_objects), bool),
    }


def write_objects(
    example: BoxExample, scale: np.ndarray, crowded: Noted, out: Batch, row: int
) -> None:
    """Writes the objects of one example, of too many the largest.

    Args:
        scale: float64 (2,), what the image's height and width were multiplied by. Its
            boxes stay inside it: the product of float32 and float64 is rounded once.
        crowded: gets an example with too many.
        out: arrays as of `empty_rows`.
    """
    found, room = len(example["labels"]), out["objects"].shape[1]
    kept = largest(example["boxes"], room)
    if found > room:
        fault = f"{found}, of which the largest {room} are kept"
        crowded.add(example["id"], 0, fault)
    out["boxes"][row, : len(kept)] = example["boxes"][kept] * np.tile(scale[::-1], 2)
    out["labels"][row, : len(kept)] = example["labels"][kept]
    out["difficult"][row, : len(kept)] = example["difficult"][kept]
    out["objects"][row, : len(kept)] = True


def largest(boxes: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the `count` boxes (n, 4) of the largest area, in ascending order.

    Of two of the same area the first is taken.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.sort(np.argsort(-areas, kind="stable")[:count])
