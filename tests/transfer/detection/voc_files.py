"""Folders in the layout of Pascal VOC: what writes them, and what checks sources."""

import numpy as np
from PIL import Image

from rtj.transfer.detection.annotated import AnnotatedSource


def xml_of(objects, size=(500, 375)):
    """An annotation. Objects are (name, (xmin, ymin, xmax, ymax), difficult)."""
    width, height = size
    inner = "".join(
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>{int(difficult)}</difficult><bndbox><xmin>{box[0]}</xmin>"
        f"<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>"
        "<ymax>2</ymax></bndbox></part></object>"
        for name, box, difficult in objects
    )
    return (
        f"<annotation><folder>VOC</folder><size><width>{width}</width><height>{height}"
        f"</height><depth>3</depth></size>{inner}</annotation>"
    )


def write_voc(root, images, splits, size=(500, 375)):
    """`images` by name: their objects, or their annotation's text, or None for none."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, objects in images.items():
        Image.new("RGB", size).save(root / "JPEGImages" / f"{name}.jpg")
        text = objects if isinstance(objects, str) else xml_of(objects or [], size)
        if objects is not None:
            (root / "Annotations" / f"{name}.xml").write_text(text)
    for split, names in splits.items():
        text = "".join(f"{name}\n" for name in names)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(text)
    return root


CHAIRS = [
    ("chair", (263, 211, 324, 339), False),
    ("chair", (165, 264, 253, 372), False),
    ("chair", (5, 244, 67, 374), True),
    ("chair", (241, 194, 295, 299), False),
    ("chair", (277, 186, 312, 220), True),
]
CHAIR_BOXES = [
    (262, 210, 324, 339),
    (164, 263, 253, 372),
    (4, 243, 67, 374),
    (240, 193, 295, 299),
    (276, 185, 312, 220),
]


def examples(source):
    return [source[i] for i in range(len(source))]


def faults_of(source):
    assert isinstance(source, AnnotatedSource)
    return source.faults


def check_protocol(source):
    """The contract of a source of boxes, on its first example."""
    example = source[0]
    count = len(example["labels"])
    assert isinstance(source.name, str)
    assert isinstance(source.class_names, tuple)
    assert source.num_classes == len(source.class_names)
    assert example["boxes"].shape == (count, 4)
    assert example["boxes"].dtype == np.float32
    assert example["labels"].dtype == np.int32
    assert example["difficult"].dtype == bool
    assert example["difficult"].shape == (count,)
    assert example["labels"].max(initial=0) < source.num_classes
    height, width = source.size(0)
    assert (example["boxes"] <= [width, height, width, height]).all()
    assert isinstance(example["id"], str)
