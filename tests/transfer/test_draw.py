"""Pictures: every pixel of an outline, of an overlay, and no text that is cut."""

import itertools

import numpy as np
import pytest
from PIL import Image

from rtj.errors import ConfigError, DataError
from rtj.transfer import tags
from rtj.transfer.draw import contact_sheet, draw_boxes, draw_legend, draw_mask
from rtj.transfer.palette import class_colour, palette, text_colour

NAMES = [f"class {k}" for k in range(20)]
GREY = np.full((240, 300, 3), 128, np.uint8)


def boxes_on(image, *rows, names=NAMES, scored=True):
    """The pixels of the picture with boxes from (box, score, class)."""
    boxes, scores, labels = (np.array(c) for c in zip(*rows, strict=True))
    known = scores if scored else None
    return np.array(draw_boxes(image, boxes, labels, known, class_names=names))


def pixels(picture, colour):
    """(H, W) bool: where a picture has this colour."""
    return (picture == colour).all(axis=-1)


def test_the_outline_of_a_box_is_two_pixels_inside_it_in_the_classs_colour():
    got = boxes_on(GREY, ([50, 60, 150, 200], 0.9, 3))
    outline = np.zeros((240, 300), bool)
    outline[60:200, 50:150] = True
    outline[62:198, 52:148] = False
    assert (got[outline] == class_colour(3)).all()
    outside = np.ones((240, 300), bool)
    outside[60 - 30 : 200, 50:150] = False  # the label is right above it
    assert (got[outside] == 128).all()
    assert (got[62:198, 52:148] == 128).all()


def test_a_small_image_and_its_boxes_are_enlarged_by_a_whole_factor():
    image = np.arange(64 * 48 * 3).reshape(64, 48, 3).astype(np.uint8)
    got = boxes_on(image, ([10, 40, 30.5, 60], 0.9, 1))  # times 4, the first from 200
    assert got.shape == (256, 192, 3)
    assert (got[160:240, 40:42] == class_colour(1)).all()
    assert (got[160:240, 121] == class_colour(1)).all()
    assert not pixels(got[160:240], class_colour(1))[:, 122:].any()
    below = got[240:].reshape(4, 4, 48, 4, 3)
    assert (below == image[60:, None, :, None].reshape(4, 1, 48, 1, 3)).all()


@pytest.mark.parametrize("side", [(100, 200), (200, 100), (375, 500)])
def test_an_image_that_is_large_enough_keeps_its_size(side):
    assert boxes_on(np.zeros((*side, 3), np.uint8), ([1, 1, 9, 9], 1, 0)).shape == (
        *side,
        3,
    )


def test_without_boxes_the_image_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (210, 90, 3)).astype(np.uint8)
    none = (np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    assert (np.array(draw_boxes(image, *none, class_names=NAMES)) == image).all()
    no_class = np.full((210, 90), 255, np.uint8)
    assert (np.array(draw_mask(image, no_class)) == image).all()


def test_what_lies_outside_is_cut_off_and_what_lies_outside_whole_is_not_drawn():
    got = boxes_on(GREY, ([-50, 100, 400, 999], 0.9, 3), ([310, 10, 400, 50], 0.8, 5))
    assert (got[100:, [0, 299]] == class_colour(3)).all()
    assert (got[[100, 239]] == class_colour(3)).all()
    assert not pixels(got, class_colour(5)).any()
    for box in ([50, 50, 50, 90], [90, 90, 50, 50], [-9, -9, 0, 0]):
        assert (boxes_on(GREY, (box, 0.9, 0)) == 128).all()


def test_the_best_score_is_on_top_whatever_the_order():
    low, high = ([50, 60, 150, 200], 0.3, 3), ([50, 60, 150, 220], 0.9, 5)
    got = boxes_on(GREY, high, low)
    assert (got == boxes_on(GREY, low, high)).all()
    assert (got[100:180, 50] == class_colour(5)).all()  # both labels are above


PLACES = list(itertools.product([0, 100, 295], [0, 100, 235]))


@pytest.mark.parametrize("corner", PLACES, ids=str)
@pytest.mark.parametrize("size", [(5, 5), (60, 40)], ids=["small", "large"])
def test_no_text_is_cut_at_the_edges(corner, size):
    name = "a potted plant"

    def ink(x, y):
        row = ([x, y, x + size[0], y + size[1]], 0.5, 0)
        got = boxes_on(GREY, row, names=[name])
        return int((~pixels(got, 128) & ~pixels(got, class_colour(0))).sum())

    in_the_middle = ink(100, 100)
    assert 300 < in_the_middle == ink(*corner)


def test_names_that_are_too_long_are_made_smaller_and_then_cut():
    wide = tags.make_tag("a potted plant 0.50", 500)
    smaller = tags.make_tag("a potted plant 0.50", wide.width - 10)
    assert (smaller.text, wide.text) == ("a potted plant 0.50",) * 2
    assert smaller.width <= wide.width - 10
    cut = tags.make_tag("a potted plant 0.50", 60)
    assert cut.width <= 60 and cut.text.endswith("…")
    assert tags.make_tag("two\nlines", 500).text == "two lines"
    narrow = np.full((200, 40, 3), 128, np.uint8)
    boxes_on(narrow, ([5, 5, 35, 30], 0.5, 0), names=["n" * 99])
    assert tags.make_tag("n" * 99, 3).text == ""


def test_labels_of_boxes_in_one_place_do_not_cover_each_other():
    colours = [class_colour(k) for k in range(3)]
    alone = [
        pixels(boxes_on(GREY, ([80, 80, 180, 160], 0.5, k)), colours[k]).sum()
        for k in range(3)
    ]
    rows = [([80, 80, 180, 160], score, k) for k, score in enumerate((0.5, 0.4, 0.3))]
    got = boxes_on(GREY, *rows)
    outline = 2 * (2 * 100 + 2 * 76)
    for colour, count in zip(colours, alone, strict=True):
        # All of its label is there; of the outlines only the best box's.
        assert pixels(got, colour).sum() >= count - outline


def test_all_labels_are_whole_where_many_boxes_share_a_place():
    row = [100, 236, 180, 240]
    rows = [(row, (9 - k) / 10, k) for k in range(9)]
    got = boxes_on(GREY, *rows, names=["a plant"] * 9)
    for k in range(9):
        alone = boxes_on(GREY, ([100, 50, 180, 54], 0.5, k), names=["a plant"] * 9)
        colour = class_colour(k)
        label = pixels(alone, colour).sum() - 4 * 80  # its box may be covered
        assert pixels(got, colour).sum() > 0.9 * label  # digits differ in ink
    assert pixels(got[220:236, 100:130], class_colour(0)).any()  # the best is nearest


def test_scores_are_written_only_where_they_are_known():
    row = ([80, 80, 180, 160], 0.5, 0)
    both = [
        pixels(boxes_on(GREY, row, scored=s), class_colour(0)).sum() for s in (0, 1)
    ]
    assert both[0] + 100 < both[1]  # a wider ground


def test_colours_differ_and_text_stands_out_from_each():
    colours = palette().astype(int)
    assert len({tuple(c) for c in colours.tolist()}) == 256
    gaps = np.linalg.norm(colours[:20, None] - colours[None, :20], axis=-1)
    assert gaps[~np.eye(20, dtype=bool)].min() > 80

    def luminance(colour):
        c = np.array(colour) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for label in range(256):
        behind = class_colour(label)
        low, high = sorted([luminance(behind), luminance(text_colour(behind))])
        assert (high + 0.05) / (low + 0.05) >= 4.58  # the root of 21


@pytest.mark.parametrize("opacity", [0.0, 0.3, 0.5, 1.0])
def test_an_overlay_is_the_exact_mixture(opacity):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (100, 70, 3)).astype(np.uint8)
    mask = rng.integers(0, 6, (100, 70)).astype(np.int32)
    mask[mask == 5] = 255
    got = np.array(draw_mask(image, mask, opacity=opacity, leave_out=(0, 255)))
    assert got.shape == (200, 140, 3)
    for y, x in itertools.product(range(0, 100, 9), range(0, 70, 9)):
        want = image[y, x].astype(float)
        if mask[y, x] not in (0, 255):
            colour = np.array(class_colour(mask[y, x]))
            want = np.round((1 - opacity) * want + opacity * colour)
        assert (got[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] == want).all()


def test_a_legend_has_each_class_once_and_stays_within_its_width():
    names = ["sky", "building", "a very long name that does not fit into it", "tree"]
    legend = draw_legend([3, 0, 3, 1, 2], class_names=names, width=120)
    got = np.array(legend)
    assert legend.width == 120
    heights = [np.flatnonzero(pixels(got, class_colour(k)).any(1)) for k in range(4)]
    assert all(len(rows) for rows in heights)
    firsts = [rows[0] for rows in heights]
    assert firsts == sorted(firsts)
    assert not pixels(got, class_colour(4)).any()
    assert draw_legend([], class_names=names, width=50).size == (50, 1)


def test_a_contact_sheet_fills_rows_from_the_left():
    images = [Image.new("RGB", (20 + k, 10), (k, 0, 0)) for k in range(5)]
    sheet = np.array(contact_sheet(images, 3, gap=2))
    assert sheet.shape == (2 * 12 - 2, 3 * 26 - 2, 3)
    assert sheet[0, 0].tolist() == [0, 0, 0]
    assert sheet[0, 26].tolist() == [1, 0, 0]
    assert sheet[12, 26 + 23].tolist() == [4, 0, 0]
    assert sheet[12, 26 + 24].tolist() == [255, 255, 255]
    assert sheet[12, 52].tolist() == [255, 255, 255]
    assert contact_sheet(images[:2], 3, gap=2).size == (2 * 23 - 2, 10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_mask(GREY / 255, GREY[..., 0]), "image is float64"),
        (lambda: draw_mask(GREY[..., 0], GREY[..., 0]), r"image is uint8 \(240, 300\)"),
        (lambda: draw_mask(GREY, GREY), r"allowed: integers \(240, 300\)"),
        (lambda: boxes_on(GREY, ([0, 0, 1, np.nan], 1, 0)), "not finite"),
        (lambda: boxes_on(GREY, ([0, 0, 1], 1, 0)), r"\(1, 3\).*allowed: \(n, 4\)"),
        (lambda: boxes_on(GREY, ([0, 0, 1, 1], 1, 20)), r"\[20\] and 20.*0 to 19"),
        (lambda: draw_legend([-1], class_names=NAMES, width=9), r"\[-1\]"),
    ],
)
def test_other_arrays_are_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_a_sheet_needs_images_and_columns():
    image = Image.new("RGB", (9, 9))
    for images, columns in (([], 2), ([image], 0)):
        with pytest.raises(ConfigError, match=f"{len(images)} images in {columns} col"):
            contact_sheet(images, columns)
