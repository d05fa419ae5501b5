"""ADE20K, from its folder and from TFDS, and other TFDS sets with masks."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.datasets.scene_parse150 import (
    scene_parse150_dataset_builder as scene_parse,
)

from rtj.errors import DataError
from rtj.transfer.segmentation.sources import eval_split, open_masks
from tests.transfer.builders import png, prepare, prepare_examples
from tests.transfer.segmentation.mask_files import (
    check_protocol,
    examples,
    write,
)


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
