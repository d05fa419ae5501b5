"""Data sets for segmentation, opened by name."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from rtj.data.images import UndecodableImage
from rtj.data.scenes import Scenes
from rtj.errors import DataError
from rtj.transfer.segmentation.sources import eval_split, open_masks
from tests.transfer.builders import png, prepare_examples
from tests.transfer.segmentation.mask_files import (
    check_protocol,
    examples,
    write,
)


def test_scenes_are_the_built_in_ones():
    source = open_masks("scenes", "train")
    check_protocol(source)
    assert (len(source), len(open_masks("scenes", "test"))) == (2000, 500)
    assert source.class_names == ("background", *"0123456789")
    scene = Scenes("train", 2000)[7]
    np.testing.assert_array_equal(source[7]["mask"], scene["mask"])
    np.testing.assert_array_equal(source[7]["image"], scene["image"])
    assert len(open_masks("scenes", "train[:10]")) == 10
    assert eval_split("scenes") == "test"
    with pytest.raises(DataError, match="no split 'validation'; allowed are train"):
        open_masks("scenes", "validation")


def test_folders_pair_images_and_masks(folder):
    (folder / "classes.txt").write_text("road\ncar\nsky\ntree\n\n")
    source = open_masks(f"folder:{folder}", "train")
    check_protocol(source)
    assert source.class_names == ("road", "car", "sky", "tree")
    assert [example["id"] for example in examples(source)] == [
        f"train/images/{name}.jpg" for name in "abc"
    ]
    for number, example in enumerate(examples(source)):
        assert example["image"] == (folder / example["id"]).read_bytes()
        wanted = np.full((5, 7 + number), number)
        wanted[0, 0] = 255
        np.testing.assert_array_equal(example["mask"], wanted)
        assert source.size(number) == (5, 7 + number)
    assert open_masks(f"folder:{folder}", "validation")[0]["mask"][1, 1] == 3
    assert eval_split(f"folder:{folder}") == "val"
    assert len(open_masks(f"folder:{folder}", "train[:67%]")) == 2


def test_without_names_the_classes_are_those_in_the_masks_of_train(folder, caplog):
    with caplog.at_level(logging.INFO):
        for split in ("train", "val"):
            source = open_masks(f"folder:{folder}", split)
            assert source.class_names == ("0", "1", "2")
    assert "3 classes, by the numbers in 3 masks" in caplog.text
    with pytest.raises(UndecodableImage, match="34 pixels of its mask are 3"):
        source[0]
    given = open_masks(f"folder:{folder}", "val", num_classes=9)
    assert given.num_classes == 9 and given[0]["mask"][1, 1] == 3


def test_a_mask_that_is_broken_does_not_stop_the_count(folder):
    (folder / "train" / "masks" / "a.png").write_bytes(b"no mask")
    source = open_masks(f"folder:{folder}", "train")
    assert source.num_classes == 3
    with pytest.raises(UndecodableImage, match=r"a\.jpg: its mask cannot be decoded"):
        source[0]


def test_masks_that_name_no_class_are_refused(folder):
    for path in (folder / "train" / "masks").iterdir():
        write(path, Image.new("L", (7, 5), 255))
    with pytest.raises(DataError, match="no mask has a number other than 255"):
        open_masks(f"folder:{folder}", "train")


@pytest.mark.parametrize(
    ("text", "fault"),
    [("", "empty"), ("a\n\nb\n", "blank line"), ("a\nb\na\n", "'a' on two lines")],
)
def test_a_file_of_classes_that_makes_no_sense_is_refused(folder, text, fault):
    (folder / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=rf"classes\.txt: .*{fault}"):
        open_masks(f"folder:{folder}", "train")


def test_a_pair_that_is_broken_is_an_example_that_cannot_be_used(folder):
    (folder / "train" / "masks" / "a.png").unlink()
    (folder / "train" / "images" / "b.jpg").write_bytes(b"no image")
    source = open_masks(f"folder:{folder}", "train", num_classes=4)
    assert len(source) == 3
    with pytest.raises(UndecodableImage, match=r"train/images/a.jpg: its mask is miss"):
        source[0]
    for read in (source.__getitem__, source.size):
        with pytest.raises(UndecodableImage, match=r"train/images/b.jpg: the image"):
            read(1)
    assert source.size(0) == (5, 7)
    (folder / "train" / "images" / "c.jpg").unlink()
    with pytest.raises(UndecodableImage, match=r"c\.jpg: its image is missing"):
        source[2]


def test_folders_that_hold_no_pair_are_refused(folder):
    for path in (folder / "train" / "masks").iterdir():
        path.rename(path.with_name(f"mask_{path.name}"))
    with pytest.raises(
        DataError, match=r"no image in .*3 images\) has a mask in .*3 f"
    ):
        open_masks(f"folder:{folder}", "train")
    with pytest.raises(DataError, match=r"no split 'dev'.*train, val"):
        open_masks(f"folder:{folder}", "dev")
    with pytest.raises(DataError, match="does not exist"):
        open_masks(f"folder:{folder}/nowhere", "train")


def test_what_is_not_there_says_what_helps(tmp_path, release):
    data_dir = str(tmp_path / "empty")
    with pytest.raises(DataError) as caught:
        open_masks("ade20k", "train", data_dir=data_dir)
    assert f"searched {data_dir}" in str(caught.value)
    assert "tfds build scene_parse150 --file_format=array_record" in str(caught.value)
    with pytest.raises(DataError, match=r"data set 'ade2k': allowed.* first: ade20k"):
        open_masks("ade2k", "train")
    with pytest.raises(DataError, match="data set 'imagenet'"):
        eval_split("imagenet")
    with pytest.raises(DataError, match=r"no split 'valid'.*validation, train"):
        open_masks("ade20k", "valid", data_dir=str(release.parent))


def test_a_data_set_of_labels_has_no_masks(tmp_path):
    features = {"image": tfds.features.Image(), "label": tfds.features.Text()}
    prepare_examples(
        "my_labels",
        features,
        [lambda: {"image": png(np.zeros((2, 2, 3))), "label": "cat"}],
        tmp_path,
    )
    with pytest.raises(DataError, match=r"annotation or segmentation_mask; .*'label'"):
        open_masks("tfds:my_labels", "train", data_dir=str(tmp_path))


def test_threads_read_what_one_does(folder):
    source = open_masks(f"folder:{folder}", "train")
    wanted = examples(source)
    with ThreadPoolExecutor(8) as pool:
        for index, found in enumerate(pool.map(source.__getitem__, [0, 1, 2] * 20)):
            np.testing.assert_array_equal(found["mask"], wanted[index % 3]["mask"])
        sizes = list(pool.map(source.size, [0, 1, 2] * 20))
    assert sizes == [(5, 7), (5, 8), (5, 9)] * 20
