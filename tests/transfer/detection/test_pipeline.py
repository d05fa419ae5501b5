"""Host batches of images and boxes: resizing, buckets, objects, bad examples."""

import io
import logging
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rtj.errors import ConfigError, DataError
from rtj.transfer.detection import pipeline
from rtj.transfer.detection.batch_order import batch_order
from rtj.transfer.detection.object_rows import largest
from tests.reading import gathered
from tests.transfer.batches import assert_same, by_process, encode, rows, smooth
from tests.transfer.sources import Examples, changed_examples

SIZES = [(30, 40), (24, 40), (40, 30), (45, 30), (30, 30), (60, 80)]
N = 30
SIDES: dict[str, Any] = {"short_side": 48, "max_side": 80}
# Short 48 and long 80 go up to 64 and 96, 4/3 of the short to 64.
BUCKETS = {(64, 64), (64, 96), (96, 64), (96, 96)}


def example(index):
    """Random pixels and 0 to 6 objects."""
    rng = np.random.default_rng(index)
    height, width = SIZES[index % 6]
    count = index % 7
    corners = rng.uniform(0, [width - 5, height - 5], (count, 2))
    sides = rng.uniform(2, 5, (count, 2))
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    return {
        "image": rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        "boxes": boxes,
        "labels": rng.integers(0, 20, count).astype(np.int32),
        "difficult": rng.random(count) < 0.3,
    }


def make(changes=()):
    return changed_examples([example(k) for k in range(N)], SIZES, changes)


@pytest.fixture(scope="module")
def source():
    return make()


def train(source, **options):
    defaults: dict[str, Any] = {"batch_size": 4, "max_objects": 6, "seed": 5} | SIDES
    defaults |= {"start_step": 0, "stop_step": 20, "workers": 2}
    with pipeline.train_batches(source, **gathered(defaults | options)) as batches:
        return list(batches)


def evaluate(source, **options):
    defaults = {"batch_size": 4, "workers": 2} | SIDES
    with pipeline.eval_batches(source, **gathered(defaults | options)) as batches:
        return list(batches)


def kinds(batch):
    return {key: (value.shape, str(value.dtype)) for key, value in batch.items()}


def resized_size(height, width):
    """Short side 48 unless the long one would be above 80."""
    scale = min(48 / min(height, width), 80 / max(height, width))
    return round(height * scale), round(width * scale)


def assert_shows(row, wanted):
    """Fails unless a row holds an example resized by Pillow, and black elsewhere."""
    height, width = row["size"]
    assert (height, width) == resized_size(*wanted["image"].shape[:2])
    pillow = Image.fromarray(wanted["image"]).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    np.testing.assert_array_equal(row["image"][:height, :width], pillow)
    assert not row["image"][height:].any() and not row["image"][:, width:].any()


def test_shapes_and_dtypes(source):
    training = train(source, stop_step=1)[0]
    shape = training["image"].shape[1:3]
    assert shape in BUCKETS
    assert kinds(training) == {
        "image": ((4, *shape, 3), "uint8"),
        "size": ((4, 2), "int32"),
        "boxes": ((4, 6, 4), "float32"),
        "labels": ((4, 6), "int32"),
        "objects": ((4, 6), "bool"),
        "difficult": ((4, 6), "bool"),
        "index": ((4,), "int32"),
    }
    evaluation = evaluate(source)[0]
    shape = evaluation["image"].shape[1:3]
    assert kinds(evaluation) == {
        "image": ((4, *shape, 3), "uint8"),
        "size": ((4, 2), "int32"),
        "scale": ((4, 2), "float32"),
        "index": ((4,), "int32"),
        "valid": ((4,), "bool"),
    }


def test_training_shows_the_examples_of_the_batch_order_resized(source):
    batches = train(source)
    planned = batch_order(source, batch_size=4, seed=5, **SIDES)
    for step, batch in enumerate(batches):
        np.testing.assert_array_equal(batch["index"], planned(step).indices)
        assert batch["image"].shape[1:3] == planned(step).shape
    for row in rows(batches):
        assert_shows(row, example(int(row["index"])))
    assert {batch["image"].shape[1:3] for batch in batches} <= BUCKETS


def test_boxes_are_scaled_with_their_image(source):
    for row in rows(train(source)):
        wanted = example(int(row["index"]))
        count = len(wanted["labels"])
        np.testing.assert_array_equal(row["objects"], np.arange(6) < count)
        np.testing.assert_array_equal(row["labels"][:count], wanted["labels"])
        np.testing.assert_array_equal(row["difficult"][:count], wanted["difficult"])
        for key in ("boxes", "labels", "difficult"):
            assert not row[key][count:].any()
        height, width = wanted["image"].shape[:2]
        # As fractions of the image's sides nothing has changed.
        before = wanted["boxes"] / [width, height, width, height]
        after = row["boxes"][:count] / np.tile(row["size"][::-1], 2)
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_a_box_at_the_edge_stays_inside():
    whole = {"boxes": np.array([[0, 0, 40, 30]], np.float32)}
    whole |= {"labels": np.zeros(1, np.int32), "difficult": np.zeros(1, bool)}
    source = Examples([example(0) | whole], [(30, 40)])
    for short in range(20, 60):
        batch = train(
            source, batch_size=1, stop_step=1, short_side=short, max_side=59, workers=1
        )[0]
        height, width = batch["size"][0]
        np.testing.assert_array_equal(batch["boxes"][0, 0], [0, 0, width, height])


def test_of_too_many_objects_the_largest_stay_and_the_log_names_each_once(
    source, caplog
):
    with caplog.at_level(logging.WARNING):
        batches = train(source, max_objects=4)
    for row in rows(batches):
        wanted = example(int(row["index"]))
        sides = wanted["boxes"][:, 2:] - wanted["boxes"][:, :2]
        areas = sides.prod(axis=1)
        bound = np.sort(areas)[::-1][:4].min(initial=np.inf)
        np.testing.assert_array_equal(
            row["labels"][row["objects"]], wanted["labels"][areas >= bound]
        )
    # Examples 5, 6, 12, 13, 19, 20, 26 and 27 have 5 or 6.
    text = [record.getMessage() for record in caplog.records]
    assert len(text) == 8
    assert any("photo-13: 6, of which the largest 4 are kept" in line for line in text)
    assert "shelf: images with more than 4 objects: 8" in text[-1]


def test_of_equal_boxes_the_first_stay():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 2, 2], [5, 5, 6, 6], [3, 3, 4, 4]])
    assert largest(boxes, 2).tolist() == [0, 1]
    assert largest(boxes, 3).tolist() == [0, 1, 2]
    assert largest(boxes, 9).tolist() == [0, 1, 2, 3]
    assert largest(boxes[:0], 2).tolist() == []


def test_training_decodes_large_jpegs_at_a_part_of_their_size_and_evaluation_does_not():
    photo = smooth(400, 600)
    files = example(0) | {"image": encode(photo, "JPEG", quality=95)}
    source = Examples([files], [(400, 600)])
    decoded = np.asarray(Image.open(io.BytesIO(files["image"])))
    size = resized_size(400, 600)
    want = Image.fromarray(decoded).resize(size[::-1], Image.Resampling.BILINEAR)
    height, width = size
    training = train(source, batch_size=1, stop_step=1)[0]["image"][0, :height, :width]
    exact = evaluate(source, batch_size=1)[0]["image"][0, :height, :width]
    np.testing.assert_array_equal(exact, want)
    assert 0 < np.abs(training.astype(int) - np.asarray(want)).mean() < 2


@pytest.mark.parametrize("run", [train, evaluate])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_read_what_one_process_reads(run, count, source):
    assert_same(by_process(run, source, count), run(source))


def test_starting_at_a_step_gives_the_tail(source):
    assert_same(train(source, start_step=13), train(source)[13:])


def test_one_side_makes_one_shape(source):
    square = {"short_side": 64, "max_side": 64}
    for batches in (train(source, **square), evaluate(source, **square)):
        assert {batch["image"].shape[1:3] for batch in batches} == {(64, 64)}


def test_evaluation_reads_every_example_once(source):
    batches = evaluate(source)
    found = rows(batches)
    assert {batch["image"].shape[1:3] for batch in batches} <= BUCKETS - {(96, 96)}
    valid = [row for row in found if row["valid"]]
    assert sorted(int(row["index"]) for row in valid) == list(range(N))
    for row in valid:
        wanted = example(int(row["index"]))
        assert_shows(row, wanted)
        want = row["size"] / np.asarray(wanted["image"].shape[:2])
        np.testing.assert_allclose(row["scale"], want, rtol=1e-6)
    for row in found:
        if not row["valid"]:
            assert row["index"] == -1 and not row["image"].any()
            assert tuple(row["size"]) == row["image"].shape[:2]
            np.testing.assert_array_equal(row["scale"], 1)


BROKEN = {
    3: {"image": b"\xff\xd8 no more"},
    8: {"broken": True},
    # Its boxes would be scaled by the wrong sides.
    16: {"size": (30, 40)},
    # A portrait, so that only such are in its batch.
    20: {"broken": True},
}


def test_in_training_others_take_the_place_of_broken_examples_and_fit_the_batch():
    whole, broken = make({16: {"size": (30, 40)}}), make(BROKEN)
    batches = train(broken, max_bad_images=4 / N)
    assert [b["image"].shape for b in batches] == [
        b["image"].shape for b in train(whole, max_bad_images=4 / N)
    ]
    planned = batch_order(broken, batch_size=4, seed=5, **SIDES)
    replaced = reduced = 0
    for step, batch in enumerate(batches):
        for row, was in zip(rows([batch]), planned(step).indices.tolist(), strict=True):
            index = int(row["index"])
            assert index not in BROKEN
            wanted = example(index)
            height, width = row["size"]
            if was in BROKEN:
                replaced += 1
                reduced += (height, width) != resized_size(*wanted["image"].shape[:2])
            else:
                assert index == was
                assert_shows(row, wanted)
            boxes = row["boxes"][row["objects"]]
            ratio = np.divide([width, height] * 2, [*wanted["image"].shape[1::-1]] * 2)
            np.testing.assert_allclose(boxes, wanted["boxes"] * ratio, rtol=1e-5)
            np.testing.assert_allclose(ratio[0], ratio[1], rtol=0.05)
    assert replaced > reduced > 0
    assert_same(train(broken, max_bad_images=4 / N, workers=1), batches)


def test_in_evaluation_broken_examples_are_not_valid():
    broken = BROKEN | {5: {"size": None}}
    found = rows(evaluate(make(broken), max_bad_images=5 / N))
    index = [int(row["index"]) for row in found if row["index"] >= 0]
    assert sorted(index) == list(range(N))
    for row in found:
        bad = row["index"] < 0 or int(row["index"]) in broken
        assert row["valid"] != bad and row["image"].any() != bad


@pytest.mark.parametrize("run", [train, evaluate])
def test_too_many_broken_examples_are_an_error(run):
    message = r"shelf: .*photo-\d+: .* 2 of 30 images; allowed: .*=0.05 "
    with pytest.raises(DataError, match=message):
        run(make(BROKEN), max_bad_images=0.05, workers=1)


@pytest.mark.parametrize("run", [train, evaluate])
@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"process_count": 3}, "batch_size=4"),
        ({"workers": -1}, "workers=-1"),
        ({"short_side": 81}, "short_side=81, detection.max_side=80"),
        ({"short_side": 0}, "short_side=0"),
    ],
)
def test_a_bad_argument_is_named(run, options, field, source):
    with pytest.raises(ConfigError, match=field):
        run(source, **options)


@pytest.mark.parametrize("field", [{"max_objects": 0}, {"start_step": 21}])
def test_a_bad_argument_of_training_is_named(field, source):
    (key, value), *_ = field.items()
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        train(source, **field)


@pytest.mark.parametrize("run", [train, evaluate])
def test_no_examples_are_an_error(run):
    with pytest.raises(DataError, match="shelf: the data set is empty"):
        run(Examples([], []))
