"""Pictures of detections and segmentations, with Pillow.

Small images are enlarged by a whole factor, each pixel to a square, so that labels are
legible and the picture still shows what the network saw. Colours depend on the class
alone.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from rtj.errors import ConfigError, DataError
from rtj.transfer.palette import class_colour, class_colours
from rtj.transfer.tags import Area, find_corner, make_tag, write_tag

LONG_SIDE = 200  # pixels, at least, of a picture
_GAP = 2  # between the tags of a legend


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None = None,
    *,
    class_names: Sequence[str],
) -> Image.Image:
    """The image with boxes in their classes' colours, named, the best score on top.

    Args:
        image: uint8 (H, W, 3), RGB.
        boxes: (D, 4) x1, y1, x2, y2, continuous pixels of `image`; what lies outside
            it is cut off, and a box with nothing inside is not drawn.
        labels: (D,) classes.
        scores: (D,), written after the names; None: not known.
        class_names: of classes 0, 1, ...

    Raises:
        DataError: an array has another form, a box is not finite, or a class has no
            name.
    """
    picture, factor = _enlarged(image)
    _check_boxes(boxes, labels, scores)
    _check_names(labels, class_names)
    best_last = range(len(boxes)) if scores is None else np.argsort(scores)
    areas = {int(i): _area(factor * boxes[i], picture) for i in best_last}
    visible = {i: area for i, area in areas.items() if area is not None}
    draw = ImageDraw.Draw(picture)
    width = max(2, round(max(picture.size) / 200))
    for i, (left, top, right, bottom) in visible.items():
        inside = (left, top, right - 1, bottom - 1)
        draw.rectangle(inside, outline=class_colour(int(labels[i])), width=width)
    taken: list[Area] = []
    for i in reversed(visible):  # the best finds its place first
        score = "" if scores is None else f" {scores[i]:.2f}"
        tag = make_tag(class_names[labels[i]] + score, picture.width)
        corner = find_corner(tag, visible[i], picture, taken)
        taken.append(write_tag(draw, tag, corner, class_colour(int(labels[i]))))
    return picture


def draw_mask(
    image: np.ndarray,
    mask: np.ndarray,
    *,
    opacity: float = 0.5,
    leave_out: Iterable[int] = (255,),
) -> Image.Image:
    """The image under its classes' colours: (1 - opacity) image + opacity colour.

    Args:
        image: uint8 (H, W, 3), RGB.
        mask: integers (H, W), a class a pixel.
        opacity: in [0, 1].
        leave_out: classes whose pixels stay as they are: 255, which is no class, or a
            background too.

    Raises:
        DataError: an array has another form.
    """
    _check_image(image)
    if mask.shape != image.shape[:2] or mask.dtype.kind not in "iu":
        raise DataError(
            f"mask is {mask.dtype} {mask.shape}; allowed: integers {image.shape[:2]}"
        )
    mixed = np.rint((1 - opacity) * image + opacity * class_colours(mask))
    kept = np.isin(mask, list(leave_out))[..., None]
    return _enlarged(np.where(kept, image, mixed).astype(np.uint8))[0]


def draw_legend(
    labels: Iterable[int], *, class_names: Sequence[str], width: int
) -> Image.Image:
    """The names of these classes on their colours, in lines of `width` pixels.

    Raises:
        DataError: a class has no name.
    """
    found = sorted({int(label) for label in labels})
    _check_names(np.array(found, np.int64), class_names)
    places = []
    x = y = line = 0
    for label in found:
        tag = make_tag(class_names[label], width)
        if x + tag.width > width:
            x, y = 0, y + line + _GAP
        places.append((label, tag, (x, y)))
        x, line = x + tag.width + _GAP, tag.height
    picture = Image.new("RGB", (width, max(1, y + line)), "white")
    draw = ImageDraw.Draw(picture)
    for label, tag, corner in places:
        write_tag(draw, tag, corner, class_colour(label))
    return picture


def contact_sheet(
    images: Sequence[Image.Image], columns: int, *, gap: int = 4
) -> Image.Image:
    """Images in rows of `columns`, in cells of the largest one's size, on white.

    Raises:
        ConfigError: there is no image, or `columns` is less than 1.
    """
    if not images or columns < 1:
        raise ConfigError(
            f"a sheet of {len(images)} images in {columns} columns; allowed: 1 or more"
        )
    width = max(image.width for image in images) + gap
    height = max(image.height for image in images) + gap
    across, down = min(columns, len(images)), -(-len(images) // columns)
    sheet = Image.new("RGB", (across * width - gap, down * height - gap), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(image, (column * width, row * height))
    return sheet


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(
            f"image is {image.dtype} {image.shape}; allowed: uint8 (H, W, 3)"
        )


def _enlarged(image: np.ndarray) -> tuple[Image.Image, int]:
    """The image as a picture of `LONG_SIDE` or more, and how many times as large."""
    _check_image(image)
    factor = math.ceil(LONG_SIDE / max(image.shape[:2]))
    return Image.fromarray(image.repeat(factor, 0).repeat(factor, 1)), factor


def _check_boxes(
    boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray | None
) -> None:
    count = len(labels)
    wanted = [(count, 4), (count,), (count,)]
    shapes = [np.shape(part) for part in (boxes, labels, scores) if part is not None]
    if shapes != wanted[: len(shapes)]:
        raise DataError(
            f"boxes, labels and scores are {shapes}; allowed: (n, 4), (n,) and (n,)"
        )
    if not np.isfinite(boxes).all():
        raise DataError(f"boxes are not finite: {boxes.tolist()}")


def _check_names(labels: np.ndarray, class_names: Sequence[str]) -> None:
    if not ((labels >= 0) & (labels < len(class_names))).all():
        raise DataError(
            f"classes are {labels.tolist()} and {len(class_names)} have a name; "
            f"allowed: 0 to {len(class_names) - 1}"
        )


def _area(box: np.ndarray, picture: Image.Image) -> Area | None:
    """The pixels of a box that lie inside the picture; None if there are none."""
    size = np.array(picture.size)
    low, high = np.clip(box[:2], 0, size), np.clip(box[2:], 0, size)
    if not (low < high).all():
        return None
    left, top = np.minimum(np.rint(low).astype(int), size - 1).tolist()
    right, bottom = np.rint(high).astype(int).tolist()
    return left, top, max(right, left + 1), max(bottom, top + 1)
