"""Data sets for segmentation, opened by name."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.datasets.scene_parse150 import (
    scene_parse150_dataset_builder as scene_parse,
)

from rtj.data.images import UndecodableImage
from rtj.data.scenes import Scenes
from rtj.errors import DataError
from rtj.transfer.segmentation.sources import eval_split, open_masks
from tests.transfer.builders import png, prepare, prepare_examples


def write(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def mask_image(number, size=(7, 5)):
    """The number, with one pixel of 255 at the top left."""
    image = Image.new("L", size, number)
    image.putpixel((0, 0), 255)
    return image


def write_pair(root, split, name, number, suffix="jpg", size=(7, 5)):
    write(root / split / "images" / f"{name}.{suffix}", Image.new("RGB", size))
    write(root / split / "masks" / f"{name}.png", mask_image(number, size))


@pytest.fixture
def folder(tmp_path):
    """Three images to train and one to validate on, classes 0 to 3."""
    for number, name in enumerate("abc"):
        write_pair(tmp_path, "train", name, number, size=(7 + number, 5))
    write_pair(tmp_path, "val", "d", 3, "PNG")
    return tmp_path


@pytest.fixture
def release(tmp_path):
    """ADE20K as its archive unpacks, two images and one."""
    root = tmp_path / "ADEChallengeData2016"
    for split, names in (("training", "ab"), ("validation", "c")):
        for number, name in enumerate(names):
            write(root / "images" / split / f"{name}.jpg", Image.new("RGB", (7, 5)))
            mask = Image.new("L", (7, 5), 150 * number)
            mask.putpixel((3, 2), 1)
            write(root / "annotations" / split / f"{name}.png", mask)
    return root


def examples(source):
    return [source[i] for i in range(len(source))]


def check_protocol(source):
    """The contract of a source of masks, on its first example."""
    example = source[0]
    mask = example["mask"]
    assert isinstance(source.name, str)
    assert isinstance(source.class_names, tuple)
    assert source.num_classes == len(source.class_names)
    assert mask.dtype == np.uint8
    assert mask.shape == source.size(0)
    assert mask[mask != 255].max(initial=0) < source.num_classes
    assert isinstance(example["id"], str)


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


def test_ade20k_counts_its_classes_from_one(release):
    for name in ("ade20k", f"folder:{release}"):
        source = open_masks(name, "train", data_dir=str(release.parent))
        check_protocol(source)
        assert (len(source), source.num_classes) == (2, 150)
        masks = [example["mask"] for example in examples(source)]
        assert [mask[2, 3] for mask in masks] == [0, 0]
        assert [mask[0, 0] for mask in masks] == [255, 149]
        split = eval_split(name, str(release.parent))
        assert split == "validation"
        held_out = open_masks(name, split, data_dir=str(release.parent))
        assert held_out[0]["id"] == "images/validation/c.jpg"


def test_ade20k_takes_its_names_from_its_own_file(release):
    lines = [f"{k} \t0.1\t{k}\t7\tthing {k}, item {k} " for k in range(1, 151)]
    file = release / "objectInfo150.txt"
    file.write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *lines]) + "\n")
    names = open_masks(f"folder:{release}", "train").class_names
    assert len(names) == 150
    assert (names[0], names[149]) == ("thing 1, item 1", "thing 150, item 150")
    file.write_text("\n".join(lines[:149]))
    with pytest.raises(DataError, match=r"objectInfo150.txt: 148 names; allowed: 150"):
        open_masks(f"folder:{release}", "train")


def prepare_scene_parse(data_dir, root, annotation):
    """TFDS's scene_parse150 of the images under `root`, with masks in a folder."""
    prepare(
        scene_parse,
        scene_parse.Builder,
        data_dir,
        {
            "train": (root / "images/training", root / annotation / "training"),
            "test": (root / "images/validation", root / annotation / "validation"),
        },
    )


def test_scene_parse150_of_tfds_is_read_as_ade20k(release, tmp_path):
    prepare_scene_parse(tmp_path / "tfds", release, "annotations")
    data_dir = str(tmp_path / "tfds")
    source = open_masks("ade20k", "train", data_dir=data_dir)
    check_protocol(source)
    wanted = examples(open_masks(f"folder:{release}", "train"))
    found = {example["mask"][0, 0]: example for example in examples(source)}
    for example in wanted:
        same = found[example["mask"][0, 0]]
        np.testing.assert_array_equal(same["mask"], example["mask"])
        assert same["image"] == example["image"]
    assert len(open_masks("ade20k", "validation", data_dir=data_dir)) == 1
    assert len(open_masks("ade20k", "train[:1]", data_dir=data_dir)) == 1
    assert eval_split("tfds:scene_parse150", data_dir) == "test"


def test_instances_of_scene_parse150_are_not_taken_for_classes(release, tmp_path):
    for split in ("training", "validation"):
        for path in (release / "annotations" / split).iterdir():
            colours = Image.new("RGB", (7, 5), (12, 1, 0))
            write(release / "annotations_instance" / split / path.name, colours)
    prepare_scene_parse(tmp_path / "tfds", release, "annotations_instance")
    with pytest.raises(DataError, match=r"instances of 100 .*ADEChallengeData2016"):
        open_masks("ade20k", "train", data_dir=str(tmp_path / "tfds"))


def prepare_masks(data_dir, name, numbers):
    """Two images with masks of one row, with features as oxford_iiit_pet has them."""
    prepare_examples(
        name,
        {
            "image": tfds.features.Image(),
            "file_name": tfds.features.Text(),
            "segmentation_mask": tfds.features.Image(
                shape=(None, None, 1), use_colormap=True
            ),
        },
        [
            lambda file=file: {
                "image": png(np.zeros((1, len(numbers), 3))),
                "file_name": file,
                "segmentation_mask": png([numbers]),
            }
            for file in ("cat_1.jpg", "dog_2.jpg")
        ],
        data_dir,
    )


def test_pets_have_two_classes_and_a_line_that_does_not_count(tmp_path):
    prepare_masks(tmp_path, "oxford_iiit_pet", [1, 2, 3])
    source = open_masks("tfds:oxford_iiit_pet", "train", data_dir=str(tmp_path))
    check_protocol(source)
    assert source.class_names == ("pet", "background")
    assert {source[0]["id"], source[1]["id"]} == {"cat_1.jpg", "dog_2.jpg"}
    np.testing.assert_array_equal(source[0]["mask"], [[0, 1, 255]])


def test_other_data_sets_of_tfds_count_classes_from_zero(tmp_path):
    prepare_masks(tmp_path, "my_masks", [0, 4, 255])
    source = open_masks("tfds:my_masks", "test[:1]", data_dir=str(tmp_path))
    assert (len(source), source.num_classes) == (1, 5)
    np.testing.assert_array_equal(source[0]["mask"], [[0, 4, 255]])
    given = open_masks("tfds:my_masks", "test", data_dir=str(tmp_path), num_classes=7)
    assert given.num_classes == 7


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
