"""Folders of photos of several shapes, with everything wrong that may be."""

import numpy as np
from PIL import Image

from tests.transfer.detection.voc_files import write_voc, xml_of

LANDSCAPE, PORTRAIT, SMALL = (64, 96), (96, 64), (40, 48)  # height, width
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30)}

# Held-out examples: their sizes, and what is wrong with two of them.
HELD_OUT = {
    "a": LANDSCAPE,
    "b": PORTRAIT,
    "c": (61, 90),
    "d": SMALL,
    "e": PORTRAIT,
    "cut": LANDSCAPE,
    "headless": PORTRAIT,
}
BROKEN = ("cut", "headless")

# Boxes as in the annotations, xmin, ymin, xmax, ymax from 1 on, of train images.
ODD_OBJECTS = {
    "none": [],
    "point": [("red", (20, 20, 20, 20), 0)],
    "huge": [("green", (1, 1, 96, 64), 0)],
    "backwards": [("red", (50, 10, 40, 30), 0), ("red", (5, 5, 30, 30), 0)],
    "outside": [("green", (200, 200, 260, 240), 0), ("green", (40, 30, 300, 99), 0)],
}


def photo(size, number):
    """(pixels, mask, objects): noise with a red and a green rectangle."""
    height, width = size
    rng = np.random.default_rng(number)
    pixels = rng.integers(90, 160, (height, width, 3), dtype=np.uint8)
    mask = np.zeros(size, np.uint8)
    objects = []
    for label, (name, colour) in enumerate(COLOURS.items(), start=1):
        top, left = rng.integers(0, [height // 2, width // 2])
        bottom, right = top + height // 3, left + width // 3
        pixels[top:bottom, left:right] = colour
        mask[top:bottom, left:right] = label
        objects.append((name, (left + 1, top + 1, right, bottom), 0))
    return pixels, mask, objects


def break_image(path, kind):
    """Takes the second half of a file, or all that makes it an image."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if kind == "cut" else b"no image")


def write_masks(root):
    """16 train images and 7 held-out ones, in the layout of `folder_masks`.

    Four train masks or images and two held-out images cannot be used.
    """
    sizes = {f"good{k}": (LANDSCAPE, PORTRAIT, SMALL)[k % 3] for k in range(12)}
    sizes |= dict.fromkeys(("cut", "other_size", "unknown_label", "no_mask"), LANDSCAPE)
    for split, names in (("train", sizes), ("val", HELD_OUT)):
        images, masks = root / split / "images", root / split / "masks"
        images.mkdir(parents=True)
        masks.mkdir()
        for number, (name, size) in enumerate(names.items()):
            pixels, mask, _ = photo(size, number)
            if name == "other_size":
                mask = mask[:-1]
            elif name == "unknown_label":
                mask[5, 5] = 7
            else:
                mask[0] = 255
            Image.fromarray(pixels).save(images / f"{name}.jpg")
            if name != "no_mask":
                Image.fromarray(mask).save(masks / f"{name}.png")
            if name in BROKEN:
                break_image(images / f"{name}.jpg", name)
    (root / "classes.txt").write_text("background\nred\ngreen\n")


def write_boxes(root):
    """16 train images and 7 held-out ones, in the layout of Pascal VOC.

    Three train images or annotations and two held-out images cannot be used.
    """
    sizes = {f"good{k}": (PORTRAIT, PORTRAIT, LANDSCAPE)[k % 3] for k in range(8)}
    sizes |= dict.fromkeys(ODD_OBJECTS, LANDSCAPE) | {"cut": LANDSCAPE}
    sizes |= {"broken_xml": PORTRAIT, "no_xml": PORTRAIT}
    splits = {"train": [*sizes], "val": [f"val_{name}" for name in HELD_OUT]}
    sizes |= {f"val_{name}": size for name, size in HELD_OUT.items()}
    photos = {name: photo(size, k) for k, (name, size) in enumerate(sizes.items())}
    objects = {
        name: xml_of(ODD_OBJECTS.get(name, found), sizes[name][::-1])
        for name, (_, _, found) in photos.items()
    }
    objects |= {"broken_xml": objects["broken_xml"][:90], "no_xml": None}
    write_voc(root, objects, splits)
    for name, (pixels, _, _) in photos.items():
        path = root / "JPEGImages" / f"{name}.jpg"
        Image.fromarray(pixels).save(path)
        if name.removeprefix("val_") in BROKEN:
            break_image(path, name.removeprefix("val_"))
    (root / "classes.txt").write_text("red\ngreen\n")


WRITERS = {"segmentation": write_masks, "detection": write_boxes}
# Train examples of which each is named in the log, and why.
UNUSABLE = {
    "segmentation": {
        "train/images/cut.jpg": "the image cannot be decoded",
        "train/images/other_size.jpg": "its mask is 96 x 63 pixels, its image 96 x 64",
        "train/images/unknown_label.jpg": "1 pixels of its mask are 7; allowed: 0 to 2",
        "train/images/no_mask.jpg": "its mask is missing",
    },
    "detection": {
        "cut": "the image cannot be decoded",
        "broken_xml": "its annotation cannot be parsed",
        "no_xml": "its annotation is missing",
    },
}
MENDED = {
    "segmentation": {},
    "detection": {
        "example backwards: object 0: box (49, 9, 40, 30) has no area": "left out",
        "example outside: object 0: box (199, 199, 260, 240) is outside": "left out",
        "example outside: object 1: (39, 29, 300, 99) in 96 x 64": "boxes cut",
    },
}
