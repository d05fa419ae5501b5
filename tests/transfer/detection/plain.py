"""Detection in plain loops over Python floats, one box at a time, from the papers."""

import math
from typing import Any

import numpy as np


def f32(values: Any) -> Any:
    return np.asarray(values, np.float32)


def i32(values: Any) -> Any:
    return np.asarray(values, np.int32)


# Boxes that real data holds or that a network comes up with.
ODD_BOXES = np.array(
    [
        [0, 0, 0, 0],  # padding
        [5, 5, 5, 20],  # no width
        [5, 5, 20, 5],  # no height
        [20, 20, 5, 5],  # inside out
        [7, 9, 8, 10],  # one pixel
        [7.2, 9.1, 7.3, 9.2],  # a fraction of one
        [-50, -50, -20, -20],  # outside
        [1000, 1000, 1100, 1100],  # outside, beyond
        [-30, -20, 600, 500],  # larger than the image
        [-1e8, -1e8, 1e8, 1e8],  # huge
        [1e8, 1e8, 2e8, 2e8],  # huge, and far away
    ],
    np.float32,
)


def area(box):
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def common_area(a, b):
    return area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])


def iou(a, b):
    a, b = [float(x) for x in a], [float(x) for x in b]
    common = common_area(a, b)
    return common / (area(a) + area(b) - common) if common else 0.0


def nms(boxes, scores, mask, threshold, groups=None):
    """Kept places, best first."""
    groups = np.zeros(len(boxes)) if groups is None else groups
    places = [i for i in range(len(boxes)) if mask[i] and not math.isnan(scores[i])]
    kept: list[int] = []
    for i in sorted(places, key=lambda i: (-scores[i], i)):
        if not any(
            groups[i] == groups[k] and iou(boxes[i], boxes[k]) > threshold for k in kept
        ):
            kept.append(i)
    return kept


def decode(offsets, anchor, weights=(1, 1, 1, 1)):
    """Ren et al., equation 2, solved for the box; growth is limited to 1000 / 16."""
    dx, dy, dw, dh = (float(o) / w for o, w in zip(offsets, weights, strict=True))
    x1, y1, x2, y2 = (float(x) for x in anchor)
    x = (x1 + x2) / 2 + dx * (x2 - x1)
    y = (y1 + y2) / 2 + dy * (y2 - y1)
    w = (x2 - x1) * min(math.exp(dw), 62.5)
    h = (y2 - y1) * min(math.exp(dh), 62.5)
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def random_boxes(rng, count, size=100.0):
    """(count, 4) float32 inside a square of `size`, many of which overlap."""
    low = rng.uniform(0, 0.8 * size, (count, 2))
    sides = rng.uniform(0.05 * size, 0.5 * size, (count, 2))
    return np.concatenate([low, np.minimum(low + sides, size)], 1).astype(np.float32)
