"""Short texts on a coloured ground, which never leave their picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from rtj.transfer.palette import Colour, text_colour

Area = tuple[int, int, int, int]  # left, top, right, bottom; the last two outside

_PAD = 2  # pixels around the text
_SIZES = (12, 11, 10, 9)  # of the font, the largest that fits


@dataclass(frozen=True)
class Tag:
    """A text and the size of its ground, pixels."""

    text: str
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    width: int
    height: int


def make_tag(text: str, width: int) -> Tag:
    """The text, smaller and at last cut to end in "…" if it is wider than `width`."""
    text = " ".join(text.split())
    tags = [_measured(text, size) for size in _SIZES]
    for tag in tags:
        if tag.width <= width:
            return tag
    for length in range(len(text) - 1, 0, -1):
        tag = _measured(text[:length] + "…", _SIZES[-1])
        if tag.width <= width:
            return tag
    return _measured("", _SIZES[-1])


def _measured(text: str, size: int) -> Tag:
    font = ImageFont.load_default(size)
    width = font.getbbox(text)[2]
    # All of one font size are of one height, whatever letters they have.
    height = font.getbbox("Ág")[3]
    return Tag(text, font, round(width) + 2 * _PAD, round(height) + 2 * _PAD)


def write_tag(
    draw: ImageDraw.ImageDraw, tag: Tag, corner: tuple[int, int], colour: Colour
) -> Area:
    """Draws it with its upper left corner there; returns the pixels it takes."""
    left, top = corner
    area = (left, top, left + tag.width, top + tag.height)
    draw.rectangle((left, top, area[2] - 1, area[3] - 1), fill=colour)
    place = (left + _PAD, top + _PAD)
    draw.text(place, tag.text, fill=text_colour(colour), font=tag.font)
    return area


def find_corner(
    tag: Tag, around: Area, picture: Image.Image, taken: Sequence[Area]
) -> tuple[int, int]:
    """Where the tag of the box `around` goes: above it, inside or below; on no other's.

    If it meets another tag in all of these, in the nearest free line; if there is none,
    above the box all the same. Near the picture's edge it is moved inside.
    """
    left, top, _, bottom = around
    left = max(0, min(left, picture.width - tag.width))
    highest = max(0, picture.height - tag.height)
    lines = sorted(range(0, highest + 1, tag.height), key=lambda y: abs(y - top))
    tops = (top - tag.height, top, bottom - tag.height, bottom, *lines)
    corners = [(left, max(0, min(y, highest))) for y in tops]
    for x, y in corners:
        area = (x, y, x + tag.width, y + tag.height)
        if not any(_meet(area, other) for other in taken):
            return x, y
    return corners[0]


def _meet(a: Area, b: Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
