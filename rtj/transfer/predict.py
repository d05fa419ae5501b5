"""Image files to masks or boxes, and to pictures of them; see `rtj.predict`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from PIL import Image

from rtj.data.decode import make_decoding
from rtj.data.prefetch import BatchIterator
from rtj.data.reading import Reading
from rtj.errors import DataError
from rtj.transfer.detection import pipeline as boxes_pipeline
from rtj.transfer.detection.faster_rcnn import FasterRCNN
from rtj.transfer.detection.inference import detect
from rtj.transfer.detection.task import make_options
from rtj.transfer.draw import draw_boxes, draw_legend, draw_mask
from rtj.transfer.file_images import FileImages
from rtj.transfer.segmentation import pipeline as masks_pipeline
from rtj.transfer.segmentation.fcn import FCN
from rtj.transfer.segmentation.training import score_pixels
from rtj.transfer.trained import Trained
from rtj.tricks.low_precision import POLICIES

# The arrays of one image: `mask`, or `boxes`, `scores` and `labels`.
Seen = dict[str, np.ndarray]


def predict(
    trained: Trained, paths: Sequence[Path], *, batch: int = 8
) -> Iterator[tuple[int, Seen | DataError]]:
    """The index of each path with what is seen there, or with what is wrong with it.

    `mask` (H, W) uint8, or `boxes` (D, 4) float32 in pixels of the image, `scores` (D,)
    and `labels` (D,). Images are prepared as in the run's evaluation, those of a like
    shape together, so the order is not that of `paths`.
    """
    source = FileImages(paths, trained.class_names)
    for index, seen in predict_source(trained, source, batch=batch):
        yield index, source.fault(index) if seen is None else seen


def predict_source(
    trained: Trained, source: Any, *, batch: int = 8
) -> Iterator[tuple[int, Seen | None]]:
    """`predict` for examples of a source of the run's task; None cannot be decoded."""
    segments = trained.config.task == "segmentation"
    step = jax.jit(_segmenter(trained) if segments else _detector(trained))
    read = _mask if segments else _objects
    with closing(_batches(trained, source, min(batch, len(source)))) as batches:
        for rows in batches:
            there = rows["size" if segments else "valid"].any()
            found = jax.device_get(step(trained.variables, rows)) if there else {}
            for row, index in enumerate(rows["index"].tolist()):
                if index >= 0:
                    yield index, read(rows, found, row)


def picture(trained: Trained, path: Path, seen: Seen, score: float) -> Image.Image:
    """The image with what is seen in it, above the colours' names if it is a mask.

    Boxes are of at least `score`.
    """
    pixels = FileImages([path], trained.class_names).pixels(0)
    image = draw(trained, pixels, seen, score)
    if "mask" not in seen:
        return image
    labels = set(np.unique(seen["mask"]).tolist()) - set(_left_out(trained))
    legend = draw_legend(labels, class_names=trained.class_names, width=image.width)
    whole = Image.new("RGB", (image.width, image.height + legend.height))
    whole.paste(image)
    whole.paste(legend, (0, image.height))
    return whole


def draw(trained: Trained, pixels: np.ndarray, seen: Seen, score: float) -> Image.Image:
    """`picture` of an image's pixels, uint8 (H, W, 3), without names of a mask."""
    if "mask" in seen:
        return draw_mask(pixels, seen["mask"], leave_out=_left_out(trained))
    sure = seen["scores"] >= score
    boxes, labels, scores = (seen[k][sure] for k in ("boxes", "labels", "scores"))
    return draw_boxes(pixels, boxes, labels, scores, class_names=trained.class_names)


def _left_out(trained: Trained) -> list[int]:
    """Classes that masks leave as they are: none at all, and a background."""
    names = enumerate(trained.class_names)
    return [255, *(label for label, name in names if name == "background")]


def _batches(trained: Trained, source: Any, batch: int) -> BatchIterator:
    data = trained.config.data
    reading = Reading(
        make_decoding(data.decoder, data.interpolation, data.antialias),
        max_bad_images=1.0,
        workers=data.workers,
    )
    if trained.config.task == "segmentation":
        return masks_pipeline.eval_batches(source, batch_size=batch, reading=reading)
    sides = trained.config.detection
    return boxes_pipeline.eval_batches(
        source,
        batch_size=batch,
        short_side=sides.short_side,
        max_side=sides.max_side,
        reading=reading,
    )


def _segmenter(trained: Trained) -> Callable[[Any, Any], Any]:
    model, colours = cast(FCN, trained.model), _colours(trained)

    def step(variables: Any, batch: Any) -> dict[str, jax.Array]:
        scores = score_pixels(variables, batch, model=model, **colours)
        return {"mask": scores.argmax(-1).astype(np.uint8)}

    return step


def _detector(trained: Trained) -> Callable[[Any, Any], Any]:
    return partial(
        detect,
        model=cast(FasterRCNN, trained.model),
        options=make_options(trained.config),
        **_colours(trained),
    )


def _colours(trained: Trained) -> dict[str, Any]:
    config = trained.config
    return {
        "mean": config.data.mean,
        "std": config.data.std,
        "policy": POLICIES[config.tricks.precision],
    }


def _mask(rows: Seen, found: Seen, row: int) -> Seen | None:
    height, width = rows["size"][row].tolist()
    return {"mask": found["mask"][row, :height, :width]} if height else None


def _objects(rows: Seen, found: Seen, row: int) -> Seen | None:
    if not rows["valid"][row]:
        return None
    there = found["mask"][row]
    return {key: found[key][row][there] for key in ("boxes", "scores", "labels")}
