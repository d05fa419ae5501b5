"""Detections and objects of an image, written in rows."""

import numpy as np

from rtj.transfer.detection.voc_map import Detections, Objects


def found(*rows):
    """Detections of an image from (box, score, class)."""
    boxes = np.reshape([row[0] for row in rows], (-1, 4)).astype(np.float32)
    return Detections(
        boxes,
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.int32),
    )


def there(*rows):
    """Objects of an image from (box, class) or (box, class, difficult)."""
    boxes = np.reshape([row[0] for row in rows], (-1, 4)).astype(np.float32)
    return Objects(
        boxes,
        np.array([row[1] for row in rows], np.int32),
        np.array([len(row) > 2 and row[2] for row in rows], bool),
    )
