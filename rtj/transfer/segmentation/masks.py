"""Masks: a PNG's numbers, and which class each number is."""

from typing import TypedDict

import numpy as np

from rtj.data.image_limits import open_pillow
from rtj.errors import DataError
from rtj.transfer.examples import SizedSource, image_size, unusable

IGNORED = 255
MAX_CLASSES = 255
_NO_CLASS = -1
_GREY, _PALETTE = 0, 3


class MaskExample(TypedDict):
    """An image and the class of each of its pixels.

    Attributes:
        image: encoded bytes, or a uint8 (H, W, 3) array, RGB.
        mask: uint8 (H, W), 0 to num_classes - 1; a pixel of 255 does not count.
        id: names it.
    """

    image: bytes | np.ndarray
    mask: np.ndarray
    id: str


MaskSource = SizedSource[MaskExample]


def decode_mask(data: bytes, example_id: str) -> np.ndarray:
    """The numbers in a PNG: (H, W) uint8, or an int32 or uint16 one of 16 bits.

    A palette's indices, never its colours; grey of 8 or 16 bits as it is. Grey of
    fewer bits is refused: a PNG means by 3 of 2 bits the grey 255, its writer may have
    meant class 3. Raises UnusableExample, naming the example.
    """
    try:
        with open_pillow(data, only=("PNG",)) as image:
            # Of the header, which comes first in every PNG.
            bits, colours = data[24], data[25]
            numbers = None
            if colours == _PALETTE or (colours == _GREY and bits >= 8):
                numbers = np.asarray(image)
            mode = image.mode
    except Exception as error:
        fault = f"its mask cannot be decoded: {error or type(error).__name__}"
        raise unusable(example_id, fault) from error
    if numbers is None:
        raise unusable(
            example_id,
            f"its mask is a PNG of mode {mode} with {bits} bits a sample; allowed: grey"
            " of 8 or 16 bits, or a palette, whose numbers are classes",
        )
    return numbers


def label_table(num_classes: int, first: int = 0) -> np.ndarray:
    """What each number 0 to 255 in a mask stands for, int16 (256,).

    Args:
        num_classes: 1 to 255.
        first: the number of class 0; those below stand for `IGNORED`.

    Returns:
        The class, `IGNORED` for 255 too, -1 for a number that is not allowed.
    """
    if not 1 <= num_classes <= MAX_CLASSES - first:
        raise DataError(
            f"masks of {num_classes} classes from {first} on; allowed: 1 to "
            f"{MAX_CLASSES - first}, since a mask is 8 bits and {IGNORED} ignored"
        )
    table = np.full(256, _NO_CLASS, np.int16)
    table[:first] = IGNORED
    table[first : first + num_classes] = np.arange(num_classes)
    table[IGNORED] = IGNORED
    return table


def to_classes(numbers: np.ndarray, table: np.ndarray, example_id: str) -> np.ndarray:
    """uint8 (H, W) classes of a mask's numbers; UnusableExample for one not allowed."""
    wide = numbers.dtype != np.uint8
    outside = (numbers < 0) | (numbers >= len(table)) if wide else False
    classes = table.take(np.where(outside, 0, numbers) if wide else numbers)
    wrong = (classes == _NO_CLASS) | outside
    if wrong.any():
        allowed = np.flatnonzero(table != _NO_CLASS)
        raise unusable(
            example_id,
            f"{np.count_nonzero(wrong)} pixels of its mask are {numbers[wrong][0]}; "
            f"allowed: {allowed[0]} to {allowed[-2]}, and {IGNORED}",
        )
    return classes.astype(np.uint8)


def make_example(
    image: bytes, mask: bytes, example_id: str, table: np.ndarray
) -> MaskExample:
    """Decodes and checks a mask. Raises UndecodableImage for what cannot be used."""
    numbers = decode_mask(mask, example_id)
    size = image_size(image, example_id)
    if numbers.shape != size:
        raise unusable(
            example_id,
            f"its mask is {numbers.shape[1]} x {numbers.shape[0]} pixels, its image "
            f"{size[1]} x {size[0]}; allowed: the same size",
        )
    classes = to_classes(numbers, table, example_id)
    return {"image": image, "mask": classes, "id": example_id}
