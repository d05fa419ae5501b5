"""Data sets for detection, opened by name."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.object_detection import voc

from rtj.data.scenes import Scenes
from rtj.errors import DataError
from rtj.transfer.detection.sources import eval_split, open_boxes
from rtj.transfer.detection.tfds_boxes import voc_pixels
from rtj.transfer.detection.voc_xml import CLASSES
from tests.transfer.builders import png, prepare, prepare_examples
from tests.transfer.detection.voc_files import (
    CHAIR_BOXES,
    CHAIRS,
    check_protocol,
    examples,
    faults_of,
    write_voc,
)

# The first image of VOC 2007's trainval, and its chairs.


def random_objects(rng, size, count):
    """Boxes of whole numbers from 1 to the side, as VOC counts; some of a pixel."""
    corners = np.sort(rng.integers(1, np.array(size) + 1, (count, 2, 2)), axis=1)
    return [
        (CLASSES[rng.integers(20)], tuple(box.tolist()), bool(rng.integers(2)))
        for box in corners.reshape(count, 4)
    ]


@pytest.fixture
def devkit(tmp_path):
    """VOCdevkit: 2007 with a train, a val and a test image, 2012 with two to train."""
    root = tmp_path / "VOCdevkit"
    rng = np.random.default_rng(0)
    write_voc(
        root / "VOC2007",
        {
            "000005": CHAIRS,
            "000007": random_objects(rng, (500, 375), 30),
            "000001": [("dog", (1, 1, 500, 375), False)],
        },
        {
            "train": ["000005"],
            "val": ["000007"],
            "trainval": ["000005", "000007"],
            "test": ["000001"],
        },
    )
    write_voc(
        root / "VOC2012",
        {"2008_000002": random_objects(rng, (333, 500), 30), "2008_000003": []},
        {
            "train": ["2008_000002"],
            "val": ["2008_000003"],
            "trainval": ["2008_000002", "2008_000003"],
        },
        size=(333, 500),
    )
    return root


@pytest.fixture
def prepared(devkit, tmp_path):
    """A TFDS data dir with `voc` as TFDS's own builder makes it of the devkit."""
    for year, parts in (("2007", {"test": "test"}), ("2012", {})):
        parts = {"train": "train", "validation": "val"} | parts
        splits = {split: (devkit.parent, file) for split, file in parts.items()}
        prepare(voc, voc.Voc, tmp_path / "tfds", splits, config=year)
    return str(tmp_path / "tfds")


def test_scenes_are_the_built_in_ones():
    source = open_boxes("scenes", "test")
    check_protocol(source)
    assert (len(source), len(open_boxes("scenes", "train"))) == (500, 2000)
    assert source.class_names == tuple("0123456789")
    scene = Scenes("test", 500)[3]
    np.testing.assert_array_equal(source[3]["boxes"], scene["boxes"])
    np.testing.assert_array_equal(source[3]["labels"], scene["classes"])
    assert not any(example["difficult"].any() for example in examples(source)[:9])
    assert len(open_boxes("scenes", "train[:10]")) == 10
    assert eval_split("scenes") == "test"
    with pytest.raises(DataError, match="no split 'val'; allowed are train, test"):
        open_boxes("scenes", "val")


def test_a_devkit_trains_on_both_years_and_tests_on_2007(devkit, caplog):
    caplog.set_level(logging.INFO)
    for path in (devkit, devkit.parent):
        source = open_boxes(f"folder:{path}", "train")
        check_protocol(source)
        assert source.class_names == CLASSES
        assert [example["id"] for example in examples(source)] == [
            "VOC2007/000005",
            "VOC2007/000007",
            "VOC2012/2008_000002",
            "VOC2012/2008_000003",
        ]
        assert [source.size(i) for i in (1, 2)] == [(375, 500), (500, 333)]
        assert eval_split(f"folder:{path}") == "test"
        test = open_boxes(f"folder:{path}", "test")
        assert [example["id"] for example in examples(test)] == ["VOC2007/000001"]
        np.testing.assert_array_equal(test[0]["boxes"], [[0, 0, 500, 375]])
    assert len(source[3]["boxes"]) == 0
    assert "train takes 2 of VOC2012 trainval" in caplog.text
    with pytest.raises(DataError, match=r"no split 'val' .* train, test"):
        open_boxes(f"folder:{devkit}", "val")


def test_vocs_numbers_name_the_first_and_the_last_pixel(devkit):
    example = open_boxes(f"folder:{devkit}", "train")[0]
    np.testing.assert_array_equal(example["boxes"], CHAIR_BOXES)
    np.testing.assert_array_equal(example["labels"], [CLASSES.index("chair")] * 5)
    np.testing.assert_array_equal(example["difficult"], [0, 0, 1, 0, 1])
    image = devkit / "VOC2007" / "JPEGImages" / "000005.jpg"
    assert example["image"] == image.read_bytes()


def test_voc_of_tfds_is_that_of_its_folders_exactly(devkit, prepared):
    for split in ("train", "test"):
        wanted = examples(open_boxes(f"folder:{devkit}", split))
        source = open_boxes("voc", split, data_dir=prepared)
        assert source.class_names == CLASSES
        found = {example["id"]: example for example in examples(source)}
        assert len(found) == len(wanted)
        for example in wanted:
            same = found[example["id"].split("/")[1] + ".jpg"]
            for key in ("boxes", "labels", "difficult"):
                np.testing.assert_array_equal(same[key], example[key])
                assert same[key].dtype == example[key].dtype
            assert same["image"] == example["image"]
    train = open_boxes("voc", "train", data_dir=prepared)
    check_protocol(train)
    sizes = {example["id"]: train.size(i) for i, example in enumerate(examples(train))}
    assert sizes["000005.jpg"] == (375, 500)
    assert sizes["2008_000002.jpg"] == (500, 333)
    assert len(open_boxes("voc", "train[:50%]", data_dir=prepared)) == 2
    assert eval_split("voc") == "test"
    assert eval_split("tfds:voc/2012", prepared) == "validation"


def test_every_whole_number_comes_back_from_float32():
    for side in [*range(1, 1100), 4000, 16000]:
        numbers = np.arange(1, side + 1)
        fractions = (numbers / side).astype(np.float32).astype(np.float64)
        boxes = voc_pixels(np.tile(fractions[:, None], 4), (side, side))
        np.testing.assert_array_equal(boxes[:, 0], numbers - 1)
        np.testing.assert_array_equal(boxes[:, 3], numbers)


def test_a_fraction_of_voc_2012_stays_one():
    # Of 2011_003353.
    box = np.array([[45.70000076 / 375, 10 / 500, 0.5, 1.0]], np.float32)
    found = voc_pixels(box.astype(np.float64), (375, 500))[0]
    np.testing.assert_allclose(found, [9, 44.70000076, 500, 187.5], atol=5e-5)


def test_a_year_that_is_not_prepared_is_named(devkit, prepared, tmp_path):
    (tmp_path / "tfds" / "voc" / "2012").rename(tmp_path / "away")
    assert len(open_boxes("voc", "test", data_dir=prepared)) == 1
    with pytest.raises(DataError) as caught:
        open_boxes("voc", "train", data_dir=prepared)
    assert "voc/2012 is not prepared" in str(caught.value)
    assert "tfds build voc/2012 --file_format=array_record" in str(caught.value)
    with pytest.raises(DataError, match="no split 'validation'; allowed are train"):
        open_boxes("voc", "validation", data_dir=prepared)


def prepare_boxes(data_dir, name, boxes, labels, crowds):
    """One 10 x 20 image with features as TFDS's coco has them."""
    prepare_examples(
        name,
        {
            "image": tfds.features.Image(),
            "image/filename": tfds.features.Text(),
            "objects": tfds.features.Sequence(
                {
                    "bbox": tfds.features.BBoxFeature(),
                    "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                    "is_crowd": np.bool_,
                }
            ),
        },
        [
            lambda: {
                "image": png(np.zeros((10, 20, 3))),
                "image/filename": "1.jpg",
                "objects": [
                    {"bbox": tfds.features.BBox(*b), "label": k, "is_crowd": c}
                    for b, k, c in zip(boxes, labels, crowds, strict=True)
                ],
            }
        ],
        data_dir,
    )


def test_other_boxes_of_tfds_are_continuous(tmp_path):
    boxes = [(0.1, 0.25, 0.5, 1.0), (0.0, 0.0, 0.05, 0.125), (0.5, 0.5, 0.5, 0.5)]
    prepare_boxes(tmp_path, "my_boxes", boxes, [1, 0, 0], [False, True, False])
    source = open_boxes("tfds:my_boxes", "train", data_dir=str(tmp_path))
    check_protocol(source)
    assert source.class_names == ("cat", "dog")
    wanted = np.array([[5, 1, 20, 5], [0, 0, 2.5, 0.5]])
    np.testing.assert_allclose(source[0]["boxes"], wanted, rtol=1e-6)
    np.testing.assert_array_equal(source[0]["labels"], [1, 0])
    np.testing.assert_array_equal(source[0]["difficult"], [False, True])
    assert len(faults_of(source).dropped) == 1


def test_a_data_set_of_labels_has_no_boxes(tmp_path):
    prepare_examples(
        "my_labels",
        {"image": tfds.features.Image(), "label": tfds.features.Text()},
        [lambda: {"image": png(np.zeros((2, 2, 3))), "label": "cat"}],
        tmp_path,
    )
    with pytest.raises(DataError, match=r"feature 'objects' .*\['image', 'label'\]"):
        open_boxes("tfds:my_labels", "train", data_dir=str(tmp_path))


def test_threads_read_what_one_does(devkit):
    source = open_boxes(f"folder:{devkit}", "train")
    wanted = examples(source)
    with ThreadPoolExecutor(8) as pool:
        for index, found in enumerate(pool.map(source.__getitem__, [*range(4)] * 20)):
            np.testing.assert_array_equal(found["boxes"], wanted[index % 4]["boxes"])
        sizes = list(pool.map(source.size, [*range(4)] * 20))
    assert sizes == [(375, 500)] * 2 + [(500, 333)] * 2 + sizes[:76]
