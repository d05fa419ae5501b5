"""Images with boxes in a folder of Pascal VOC's layout, whole and broken."""

import logging

import numpy as np
import pytest
from PIL import Image

from rtj.data.images import UndecodableImage
from rtj.errors import DataError
from rtj.transfer.detection.sources import eval_split, open_boxes
from rtj.transfer.detection.voc_xml import CLASSES
from tests.transfer.detection.voc_files import (
    CHAIR_BOXES,
    CHAIRS,
    check_protocol,
    examples,
    faults_of,
    write_voc,
    xml_of,
)


def folder_of(tmp_path, images, splits=None, **options):
    write_voc(tmp_path / "own", images, splits or {"train": images}, **options)
    return f"folder:{tmp_path / 'own'}"


def test_other_classes_are_the_names_found_sorted(tmp_path):
    name = folder_of(
        tmp_path,
        {
            "a": [("zebra", (1, 1, 9, 9), False), ("dog", (1, 1, 9, 9), False)],
            "b": [("ant", (1, 1, 9, 9), False)],
        },
        {"train": ["a"], "val": ["b"]},
    )
    for split in ("train", "validation"):
        assert open_boxes(name, split).class_names == ("ant", "dog", "zebra")
    assert eval_split(name) == "val"
    check_protocol(open_boxes(name, "train"))
    np.testing.assert_array_equal(open_boxes(name, "train")[0]["labels"], [2, 1])
    (tmp_path / "own" / "classes.txt").write_text("zebra\nant\n")
    source = open_boxes(name, "train")
    assert source.class_names == ("zebra", "ant")
    np.testing.assert_array_equal(source[0]["labels"], [0])
    assert len(faults_of(source).dropped) == 1


def test_a_folder_with_vocs_names_alone_has_vocs_classes(tmp_path):
    name = folder_of(tmp_path, {"a": [("dog", (1, 1, 9, 9), False)]})
    assert open_boxes(name, "train").class_names == CLASSES


def test_a_list_may_have_a_second_column_and_any_name(tmp_path):
    name = folder_of(
        tmp_path,
        {"a": [("dog", (1, 1, 9, 9), False)], "b": []},
        {"train": ["a", "b"], "dog_train": ["a  1", "b -1", ""]},
    )
    assert [e["id"] for e in examples(open_boxes(name, "dog_train"))] == ["a", "b"]
    assert len(open_boxes(name, "train[:1]")) == 1


@pytest.mark.parametrize(
    ("names", "fault"), [(["a", "b", "a"], "a on two lines"), ([], "no line")]
)
def test_a_list_that_makes_no_sense_is_refused(tmp_path, names, fault):
    name = folder_of(tmp_path, {"a": CHAIRS, "b": []}, {"train": names})
    with pytest.raises(DataError, match=rf"Main/train\.txt: it has {fault}"):
        open_boxes(name, "train")


def test_an_annotation_that_is_broken_costs_its_example_alone(tmp_path):
    name = folder_of(
        tmp_path,
        {
            "good": CHAIRS,
            "broken": "<annotation><object>",
            "html": "<html></html>",
            "missing": None,
            "empty": "",
        },
    )
    source = open_boxes(name, "train")
    assert len(source) == 5 and len(source[0]["boxes"]) == 5
    for index, fault in (
        (1, "example broken: its annotation cannot be parsed"),
        (2, "example html: its annotation is <html>; allowed"),
        (3, r"example missing: its annotation is missing: .*missing\.xml"),
        (4, "example empty: its annotation cannot be parsed"),
    ):
        with pytest.raises(UndecodableImage, match=fault):
            source[index]
        assert source.size(index) == (375, 500)


def test_an_image_that_is_broken_costs_its_example_alone(tmp_path):
    name = folder_of(tmp_path, {"good": CHAIRS, "bad": CHAIRS, "gone": CHAIRS})
    images = tmp_path / "own" / "JPEGImages"
    (images / "bad.jpg").write_bytes(b"no image")
    (images / "gone.jpg").unlink()
    source = open_boxes(name, "train")
    for read in (source.__getitem__, source.size):
        with pytest.raises(UndecodableImage, match="example bad: the image cannot"):
            read(1)
        with pytest.raises(UndecodableImage, match="example gone: its image is miss"):
            read(2)
    assert len(source[0]["boxes"]) == 5


def test_numbers_that_are_none_cost_their_object_alone(tmp_path, caplog):
    objects = [
        ("chair", ("", 1, 9, 9), False),
        ("chair", (1, "nan", 9, 9), False),
        ("chair", (1, 1, "wide", 9), False),
        ("chair", (9, 9, 1, 1), False),
        *CHAIRS,
    ]
    text = xml_of(objects).replace("</size>", "</size><object></object>")
    source = open_boxes(folder_of(tmp_path, {"a": text}), "train")
    with caplog.at_level(logging.WARNING):
        example = source[0]
    np.testing.assert_array_equal(example["boxes"], CHAIR_BOXES)
    assert len(faults_of(source).dropped) == len(caplog.records) == 5


def test_the_images_own_size_counts_and_not_the_annotations(tmp_path, caplog):
    text = xml_of([("dog", (300, 10, 400, 400), False)], size=(375, 500))
    source = open_boxes(folder_of(tmp_path, {"a": text}), "train")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(source[0]["boxes"], [[299, 9, 400, 375]])
    assert (len(faults_of(source).sizes), len(faults_of(source).clipped)) == (1, 1)
    assert "example a: 375 x 500, but the image is 500 x 375" in caplog.text


def test_images_may_be_of_any_kind(tmp_path):
    name = folder_of(tmp_path, {"a": CHAIRS})
    path = tmp_path / "own" / "JPEGImages" / "a.jpg"
    path.unlink()
    Image.new("RGB", (500, 375)).save(path.with_suffix(".PNG"))
    source = open_boxes(name, "train")
    assert source[0]["image"] == path.with_suffix(".PNG").read_bytes()
    assert source.size(0) == (375, 500)


def test_folders_in_another_layout_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds neither Annotations, JPEGImages"):
        open_boxes(f"folder:{tmp_path}", "train")
    name = folder_of(tmp_path, {"a": CHAIRS})
    with pytest.raises(DataError, match=r"no split 'test' under .*first: train, for"):
        open_boxes(name, "test")
    with pytest.raises(DataError, match="no split validation, val, test among train"):
        eval_split(name)
    nameless = folder_of(tmp_path / "none", {"a": [], "b": None})
    with pytest.raises(DataError, match=r"no annotation in .* of 2 images names a cl"):
        open_boxes(nameless, "train")
    with pytest.raises(DataError, match="data set 'vok': allowed, nearest first: voc"):
        open_boxes("vok", "train")
