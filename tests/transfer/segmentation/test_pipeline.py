"""Host batches of images and masks: canvases, shapes, order, bad examples."""

import logging
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rtj.data import order
from rtj.errors import ConfigError, DataError
from rtj.transfer.segmentation import pipeline
from rtj.transfer.segmentation.nearest import resize_mask
from tests.reading import gathered
from tests.transfer.batches import assert_same, by_process, encode, rows, smooth
from tests.transfer.sources import Examples, changed_examples

SIZES = [(30, 40), (40, 30), (64, 64), (96, 50), (20, 120), (41, 53)]
N = 22
IGNORE = 255


def example(index):
    """Random pixels, and a mask that is computed from them."""
    rng = np.random.default_rng(index)
    image = rng.integers(0, 256, (*SIZES[index % 6], 3), dtype=np.uint8)
    mask = image[:, :, 0] % 20
    mask[:2] = IGNORE
    return {"image": image, "mask": mask}


def make(changes=()):
    return changed_examples([example(k) for k in range(N)], SIZES, changes)


@pytest.fixture(scope="module")
def source():
    return make()


def train(source, **options):
    defaults: dict[str, Any] = {"batch_size": 4, "canvas": 64, "seed": 5}
    defaults |= {"start_step": 0, "stop_step": 12, "workers": 2}
    with pipeline.train_batches(source, **gathered(defaults | options)) as batches:
        return list(batches)


def evaluate(source, **options):
    defaults = {"batch_size": 4, "workers": 2}
    with pipeline.eval_batches(source, **gathered(defaults | options)) as batches:
        return list(batches)


def test_training_shapes_and_dtypes(source):
    batch = train(source, stop_step=1)[0]
    assert {key: (value.shape, str(value.dtype)) for key, value in batch.items()} == {
        "image": ((4, 64, 64, 3), "uint8"),
        "mask": ((4, 64, 64), "uint8"),
        "size": ((4, 2), "int32"),
        "index": ((4,), "int32"),
    }


def test_small_images_lie_unchanged_in_the_upper_left_of_the_canvas(source):
    found = rows(train(source))
    np.testing.assert_array_equal(
        [row["index"] for row in found], order.stream_indices(5, N, 0, 48)
    )
    unchanged = 0
    for row in found:
        height, width = row["size"]
        assert not row["image"][height:].any() and not row["image"][:, width:].any()
        assert (row["mask"][height:] == IGNORE).all()
        assert (row["mask"][:, width:] == IGNORE).all()
        wanted = example(int(row["index"]))
        if max(wanted["mask"].shape) <= 64:
            assert (height, width) == wanted["mask"].shape
            np.testing.assert_array_equal(
                row["image"][:height, :width], wanted["image"]
            )
            np.testing.assert_array_equal(row["mask"][:height, :width], wanted["mask"])
            unchanged += 1
    assert 10 < unchanged < 48


def test_large_images_are_reduced_as_by_pillow_and_masks_to_the_nearest_pixel(source):
    checked = 0
    for row in rows(train(source)):
        wanted = example(int(row["index"]))
        if max(wanted["mask"].shape) > 64:
            size = {(96, 50): (64, 33), (20, 120): (11, 64)}[wanted["mask"].shape]
            assert tuple(row["size"]) == size
            pillow = Image.fromarray(wanted["image"]).resize(
                size[::-1], Image.Resampling.BILINEAR
            )
            height, width = size
            np.testing.assert_array_equal(row["image"][:height, :width], pillow)
            # In doubles: the pixel below the target's centre.
            ys, xs = (
                np.floor((np.arange(n) + 0.5) * m / n).astype(int)
                for n, m in zip(size, wanted["mask"].shape, strict=True)
            )
            np.testing.assert_array_equal(
                row["mask"][:height, :width], wanted["mask"][ys][:, xs]
            )
            checked += 1
    assert checked > 10


def test_at_half_the_size_a_mask_takes_the_right_of_two_equally_near_pixels():
    mask = np.arange(16).reshape(4, 4)
    np.testing.assert_array_equal(resize_mask(mask, (2, 2)), [[5, 7], [13, 15]])


def test_encoded_images_give_what_arrays_give():
    arrays = [example(k) for k in range(N)]
    files = [one | {"image": encode(one["image"])} for one in arrays]
    sizes = [SIZES[k % 6] for k in range(N)]
    assert_same(train(Examples(files, sizes)), train(Examples(arrays, sizes)))


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size():
    photo = smooth(400, 600)
    data = encode(photo, "JPEG", quality=95)
    mask = np.zeros((400, 600), np.uint8)
    source = Examples([{"image": data, "mask": mask}], [(400, 600)])
    batch = train(source, stop_step=1, batch_size=1)[0]
    want = Image.fromarray(photo).resize((64, 43), Image.Resampling.BILINEAR)
    got = batch["image"][0, :43].astype(int)
    assert np.abs(got - np.asarray(want)).mean() < 2


@pytest.mark.parametrize("run", [train, evaluate])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_read_what_one_process_reads(run, count, source):
    assert_same(by_process(run, source, count), run(source))


def test_starting_at_a_step_gives_the_tail(source):
    assert_same(train(source, start_step=7), train(source)[7:])


def test_evaluation_reads_every_example_once_at_full_size(source):
    batches = evaluate(source)
    shapes = {batch["image"].shape[1:3] for batch in batches}
    assert shapes == {(32, 40), (40, 32), (64, 64), (96, 56), (24, 128), (48, 56)}
    seen = []
    for row in rows(batches):
        index, (height, width) = int(row["index"]), row["size"]
        if index < 0:
            assert (height, width) == (0, 0)
        else:
            seen.append(index)
            wanted = example(index)
            assert (height, width) == wanted["mask"].shape
            np.testing.assert_array_equal(
                row["image"][:height, :width], wanted["image"]
            )
            np.testing.assert_array_equal(row["mask"][:height, :width], wanted["mask"])
        assert not row["image"][height:].any() and not row["image"][:, width:].any()
        assert (row["mask"][height:] == IGNORE).all()
        assert (row["mask"][:, width:] == IGNORE).all()
    assert sorted(seen) == list(range(N))


BROKEN = {
    3: {"image": b"\xff\xd8 no more"},
    8: {"broken": True},
    # The mask of another image.
    17: {"mask": np.zeros((7, 9), np.uint8)},
}


def test_in_training_others_take_the_place_of_broken_examples(caplog):
    whole = train(make())
    with caplog.at_level(logging.WARNING):
        batches = train(make(BROKEN), max_bad_images=3 / N)
    replaced = 0
    for row, was in zip(rows(batches), rows(whole), strict=True):
        assert row["index"] not in BROKEN
        if int(was["index"]) in BROKEN:
            replaced += 1
        else:
            assert row["index"] == was["index"]
            np.testing.assert_array_equal(row["image"], was["image"])
    assert replaced >= 6
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert len(caplog.records) == 3
    assert "photo-17: its image is (41, 53), its mask (7, 9)" in text
    assert "photo-8: it is broken" in text
    assert "photo-3: the image cannot be decoded" in text
    assert_same(train(make(BROKEN), max_bad_images=3 / N, workers=1), batches)
    # What takes a place depends on the epoch, not on the batch.
    small = train(make(BROKEN), max_bad_images=3 / N, batch_size=2, stop_step=24)
    assert [row["index"] for row in rows(small)] == [
        row["index"] for row in rows(batches)
    ]


def test_in_evaluation_broken_examples_do_not_count():
    broken = BROKEN | {5: {"size": None}, 6: {"size": (30, 39)}}
    batches = evaluate(make(broken), max_bad_images=5 / N)
    found = {int(row["index"]): row for row in rows(batches) if row["index"] >= 0}
    assert sorted(found) == list(range(N))
    for index, row in found.items():
        bad = index in broken
        assert (tuple(row["size"]) == (0, 0)) == bad
        assert (row["mask"] == IGNORE).all() == bad
        assert row["image"].any() != bad


@pytest.mark.parametrize("run", [train, evaluate])
def test_too_many_broken_examples_are_an_error(run):
    with pytest.raises(DataError, match=r"3 of 22 images; allowed: .*=0.1 "):
        run(make(BROKEN), max_bad_images=0.1, workers=1)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"process_count": 3}, "batch_size=4"),
        ({"start_step": 13}, "start_step=13"),
        ({"workers": -1}, "workers=-1"),
    ],
)
def test_a_bad_argument_is_named(options, field, source):
    with pytest.raises(ConfigError, match=field):
        train(source, **options)


@pytest.mark.parametrize("run", [train, evaluate])
def test_no_examples_are_an_error(run):
    with pytest.raises(DataError, match="shelf: the data set is empty"):
        run(Examples([], []))


@pytest.mark.parametrize("run", [train, evaluate])
def test_an_example_that_cannot_be_read_is_an_error(run):
    class Failing(Examples):
        def __getitem__(self, index, /):
            raise OSError("disk on fire")

    with pytest.raises(DataError, match=r"shelf: example number .*disk on fire"):
        run(Failing([example(0)], [SIZES[0]]))
