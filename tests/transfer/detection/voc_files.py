"""Writes folders in the layout of Pascal VOC."""

from PIL import Image


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
