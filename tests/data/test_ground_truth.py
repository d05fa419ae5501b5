"""Labels of a flat split: every file that ImageNet's come in, and what may be wrong."""

import importlib.resources
from collections import Counter

import numpy as np
import pytest
from scipy.io import savemat

from rtj.data.ground_truth import file_names, read_labels
from rtj.errors import DataError
from rtj.labels import imagenet_ids

WNIDS = ["n01440764", "n01751748", "n09193705"]
FILES = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 5)]
CLASSES = [1, 0, 2, 1]  # of FILES


@pytest.fixture
def labels_from(tmp_path):
    """Writes `files` (path under the root -> text) and reads the labels of val."""
    (tmp_path / "val").mkdir()

    def read(files, *, split="val", names=FILES, classes=WNIDS):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return read_labels(tmp_path, split, names, classes).tolist()

    return read


def kaggle(rows):
    lines = [f"{name},{label} 85 1 499 272" for name, label in rows]
    return "\n".join(["ImageId,PredictionString", *lines]) + "\n"


def devkit(root, ids, lines):
    """A devkit whose ILSVRC2012 ids are `ids`, {wnid: id}; 4 is an inner node."""
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    rows = [(number, wnid, 0) for wnid, number in ids.items()] + [(4, "n00001740", 3)]
    synsets = np.array(sorted(rows), dtype=fields).reshape(-1, 1)
    savemat(folder / "meta.mat", {"synsets": synsets})
    truth = folder / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("\n".join(map(str, lines)) + "\n")


STEMS = [name.removesuffix(".JPEG") for name in FILES]
IN_ORDER = [WNIDS[number] for number in CLASSES]
SHUFFLED = [2, 0, 3, 1]


def rows(names, labels):
    return "\n".join(f"{names[i]} {labels[i]}" for i in SHUFFLED)


@pytest.mark.parametrize("folder", ["", "val/"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("LOC_val_solution.csv", kaggle([(STEMS[i], IN_ORDER[i]) for i in SHUFFLED])),
        ("val.txt", rows(FILES, IN_ORDER)),
        ("val.txt", rows(FILES, CLASSES)),
        ("val.txt", rows(STEMS, CLASSES)),
        ("val.txt", rows([f"val/{name}" for name in FILES], CLASSES)),
        ("val.txt", "\r\n".join(IN_ORDER) + "\r\n\r\n"),
        ("val_labels.txt", "\n".join(IN_ORDER)),
        ("validation_labels.txt", "\n".join(IN_ORDER)),
        ("imagenet_2012_validation_synset_labels.txt", "\n".join(IN_ORDER)),
    ],
)
def test_every_form_gives_the_classes_in_the_order_of_the_files(
    labels_from, folder, name, text
):
    assert labels_from({folder + name: text}) == CLASSES


def test_the_devkits_ids_are_not_the_order_of_the_wordnet_ids(labels_from, tmp_path):
    ids = {WNIDS[0]: 3, WNIDS[1]: 1, WNIDS[2]: 2}
    devkit(tmp_path, ids, [ids[wnid] for wnid in IN_ORDER])
    assert labels_from({}) == CLASSES


def test_tensorflows_file_gives_imagenets_known_labels(labels_from):
    # TFDS ships it. The first labels are those of Caffe's val.txt, and every class has
    # 50 validation images (Russakovsky et al. 2015, table 2).
    package = importlib.resources.files("tensorflow_datasets")
    folder = package / "datasets" / "imagenet2012"
    text = (folder / "validation_labels.txt").read_text()
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 50_001)]
    labels = labels_from(
        {"imagenet_2012_validation_synset_labels.txt": text},
        names=names,
        classes=imagenet_ids(),
    )
    assert labels[:5] == [65, 970, 230, 809, 516]
    assert Counter(labels) == dict.fromkeys(range(1000), 50)


def test_a_label_that_is_a_class_name_and_a_number_is_the_name(labels_from):
    names, classes = ["a.png", "b.png"], ["1", "10", "2"]
    text = "a.png 2\nb.png 10"
    assert labels_from({"val.txt": text}, names=names, classes=classes) == [2, 1]
    # 0 is no class name, so that all of these are numbers.
    text = "a.png 2\nb.png 0"
    assert labels_from({"val.txt": text}, names=names, classes=classes) == [2, 0]


def test_a_test_split_does_not_take_the_labels_of_val(labels_from, tmp_path):
    (tmp_path / "test").mkdir()
    devkit(tmp_path, {WNIDS[0]: 1, WNIDS[1]: 2, WNIDS[2]: 3}, [1, 2, 3, 1])
    with pytest.raises(DataError, match=r"test holds images but no class folders"):
        labels_from({"val.txt": rows(FILES, CLASSES)}, split="test")
    assert labels_from({"test.txt": rows(FILES, CLASSES)}, split="test") == CLASSES


def test_without_ground_truth_the_files_looked_for_are_listed(labels_from, tmp_path):
    with pytest.raises(DataError) as caught:
        labels_from({})
    message = str(caught.value)
    for name in file_names("val"):
        assert name in message
    assert f"into {tmp_path}" in message and "\n" not in message


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("LOC_val_solution.csv", kaggle([(STEMS[0], WNIDS[0])]), "1 labels for 4 ima"),
        ("val.txt", "\n".join(IN_ORDER[:3]), "val.txt has 3 labels for 4 images"),
        ("val.txt", "", "val.txt, line 1: '' is neither FILENAME LABEL"),
        (
            "LOC_val_solution.csv",
            kaggle((name.replace("4", "5"), WNIDS[0]) for name in STEMS),
            f"solution.csv has no line for {FILES[3]}",
        ),
        (
            "LOC_val_solution.csv",
            kaggle([(STEMS[0], WNIDS[0])] * 4),
            f"{STEMS[0]} has two lines",
        ),
        ("LOC_val_solution.csv", "id,label\n", "must be ImageId,PredictionString"),
        (
            "LOC_val_solution.csv",
            "ImageId,PredictionString\nx,\n",
            "solution.csv, line 2: there is no label",
        ),
        ("val.txt", rows(FILES, [1, 0, 3, 1]), f"label '3' of {FILES[2]} is out of ra"),
        ("val.txt", rows(FILES, [1, 0, -1, 1]), f"label '-1' of {FILES[2]} is out of"),
        ("val.txt", rows(FILES, [*IN_ORDER[:3], "n02"]), f"'n02' of {FILES[3]} is out"),
        ("val.txt", "\n".join([*IN_ORDER[:3], "n02"]), "line 4: 'n02' is neither FILE"),
        (
            "val.txt",
            rows(FILES, CLASSES) + f"\n{WNIDS[0]}",
            "line 5: 'n01440764' is ne",
        ),
        ("val.txt", "\udcff".encode(errors="surrogateescape"), "val.txt cannot be re"),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_the_file(
    labels_from, tmp_path, name, text, message
):
    if isinstance(text, bytes):
        (tmp_path / name).write_bytes(text)
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        labels_from({})
    assert str(tmp_path / name) in str(caught.value)


def test_two_images_of_one_name_cannot_share_a_line(labels_from):
    text = "a 0\nb 1"
    with pytest.raises(DataError, match=r"no line for a\.png"):
        labels_from({"val.txt": text}, names=["a.jpg", "a.png"])


def test_a_devkit_id_out_of_range_is_an_error(labels_from, tmp_path):
    devkit(tmp_path, {WNIDS[0]: 1, WNIDS[1]: 2, WNIDS[2]: 3}, [1, 2, 4, 1])
    with pytest.raises(DataError, match=r"line 3: '4' is out of range; .* 1 to 3 of"):
        labels_from({})


def test_a_devkit_without_its_meta_file_is_an_error(labels_from, tmp_path):
    devkit(tmp_path, {WNIDS[0]: 1}, [1, 1, 1, 1])
    meta = tmp_path / "ILSVRC2012_devkit_t12" / "data" / "meta.mat"
    meta.write_bytes(b"not a MATLAB file")
    with pytest.raises(DataError, match=r"meta\.mat cannot be read: .*unpack"):
        labels_from({})
    meta.unlink()
    with pytest.raises(DataError, match=r"meta\.mat cannot be read: .*unpack"):
        labels_from({})
