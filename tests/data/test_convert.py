"""Folders, tar files and arrays turned into TFDS data sets."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from rtj.data import sources
from rtj.data.memory import ArraySource
from rtj.data.prepare.convert import Settings, convert
from rtj.errors import DataError
from rtj.labels import imagenet_ids
from tests.data.conversions import (
    CLASSES,
    examples,
    jpeg,
    photo,
    run_convert,
    shards,
)


def test_the_data_set_holds_the_examples_of_the_source_in_its_order(tree, tmp_path):
    assert run_convert(f"folder:{tree}", tmp_path, "--shard_mb=0.01") == 0
    for split in ("train", "validation"):
        made = examples("tfds:pets", split, tmp_path)
        assert made == examples(f"folder:{tree}", split)
    made = sources.open_source("tfds:pets", "train", data_dir=str(tmp_path))
    assert isinstance(made, sources.TfdsSource)
    assert (len(made), made.num_classes, made.class_names) == (31, 3, CLASSES)
    assert sources.eval_split("tfds:pets", str(tmp_path)) == "validation"
    lengths = (
        tfds.builder_from_directory(tmp_path / "pets" / "1.0.0")
        .info.splits["train"]
        .shard_lengths
    )
    assert len(lengths) > 3 and max(lengths) - min(lengths) <= 1
    assert [path.name for path in (tmp_path / "pets").iterdir()] == ["1.0.0"]


def test_tar_shards_become_a_data_set_with_numbers_for_classes(tmp_path):
    for split, labels in (("train", [0, 2, 1, 2]), ("val", [1])):
        with tarfile.open(tmp_path / f"{split}-000000.tar", "w") as tar:
            for i, label in enumerate(labels):
                image = jpeg(photo(i, 30, 20))
                for name, data in (
                    (f"{i:03d}.jpg", image),
                    (f"{i:03d}.cls", f"{label}".encode()),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    assert run_convert(f"tar:{tmp_path}", tmp_path) == 0
    for split in ("train", "validation"):
        made = examples("tfds:pets", split, tmp_path)
        assert made == examples(f"tar:{tmp_path}", split)
    made = sources.open_source("tfds:pets", "train", data_dir=str(tmp_path))
    assert isinstance(made, sources.TfdsSource)
    assert made.class_names == ["0", "1", "2"]


def test_arrays_become_pngs(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 1), dtype=np.uint8)
    opened = {"train": ArraySource(images, [0, 1, 0, 1, 1], 2)}
    report = convert("arrays", opened, "noise", str(tmp_path), Settings())
    assert report["splits"] == {"train": 5}
    for example, pixels in zip(
        examples("tfds:noise", "train", tmp_path), images, strict=True
    ):
        decoded = np.asarray(Image.open(io.BytesIO(example["image"])))
        np.testing.assert_array_equal(decoded, pixels[:, :, 0])


def test_the_bytes_depend_on_nothing_but_the_source(tree, tmp_path):
    flags = ["--short_side=32", "--shard_mb=0.01"]
    made = []
    for name, workers in (("one", 1), ("two", 3)):
        data_dir = tmp_path / name
        assert (
            run_convert(f"folder:{tree}", data_dir, f"--workers={workers}", *flags) == 0
        )
        made.append(shards(data_dir / "pets" / "1.0.0"))
    assert len(made[0]) > 3
    assert made[0] == made[1]


def test_an_image_that_cannot_be_decoded_is_kept_and_named(tree, tmp_path, capsys):
    broken = tree / "train" / "dog" / "train04.jpg"
    broken.write_bytes(broken.read_bytes()[:-300])
    assert run_convert(f"folder:{tree}", tmp_path, "--short_side=32", "--json") == 0
    out = capsys.readouterr().out
    assert "train/dog/train04.jpg cannot be decoded, kept as it is" in out
    report = json.loads(out.splitlines()[-1])
    assert report["undecodable"] == ["train/dog/train04.jpg"]
    assert report["reencoded"] == 36
    made = {e["id"]: e["image"] for e in examples("tfds:pets", "train", tmp_path)}
    assert made["train/dog/train04.jpg"] == broken.read_bytes()
    sides = [
        min(Image.open(io.BytesIO(image)).size)
        for name, image in made.items()
        if "04" not in name and "extra" not in name
    ]
    assert set(sides) == {32}


class Numbered:
    """One tiny image of each class, named as ImageNet's."""

    num_classes = 1000
    name = "numbered"

    def __init__(self, class_names, file):
        self.class_names = list(class_names)
        self._file = file
        self._image = jpeg(photo(0, 8, 8))

    def __len__(self):
        return self.num_classes

    def __getitem__(self, index):
        wnid = self.class_names[index]
        return {
            "image": self._image,
            "label": index,
            "id": f"train/{wnid}/{self._file.format(wnid)}",
        }


def test_as_imagenet2012_it_is_what_imagenet_opens(tmp_path):
    opened = {
        "train": Numbered(imagenet_ids(), "{}_1.JPEG"),
        "validation": Numbered(imagenet_ids(), "ILSVRC2012_val_00000001.JPEG"),
    }
    convert("numbered", opened, "imagenet2012", str(tmp_path), Settings())
    assert sources.resolve_auto(str(tmp_path)) == "imagenet"
    made = examples("imagenet", "train", tmp_path)
    assert [e["label"] for e in made] == list(range(1000))
    assert [e["id"] for e in made] == [f"{wnid}_1.JPEG" for wnid in imagenet_ids()]
    assert examples("imagenet", "validation", tmp_path)[5]["id"] == (
        "ILSVRC2012_val_00000001.JPEG"
    )
    # TFDS's own class, whose code needs no TensorFlow until it prepares.
    theirs = tfds.builder_cls("imagenet2012")(data_dir=str(tmp_path))
    ours = tfds.builder_from_directory(tmp_path / "imagenet2012" / "5.1.0")
    assert ours.info.features.to_json() == theirs._info().features.to_json()
    assert ours.info.features["label"].names == theirs._info().features["label"].names
    assert (theirs.version, theirs.data_dir) == (ours.version, ours.data_dir)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (imagenet_ids()[::-1], "the class 'n15075141' stands where imagenet2012 has"),
        (CLASSES, "has 3 classes and imagenet2012 has 1000"),
    ],
)
def test_other_classes_are_not_imagenet2012(tmp_path, names, message):
    source = Numbered(names, "{}_1.JPEG")
    source.num_classes = len(names)
    with pytest.raises(DataError, match=message):
        convert("x", {"train": source}, "imagenet2012", str(tmp_path), Settings())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["Pets", "1pets", "my-pets", "pets/x", ".."])
def test_names_that_tfds_does_not_allow_are_refused(tree, tmp_path, capsys, name):
    assert run_convert(f"folder:{tree}", tmp_path, name=name) == 2
    assert f"--name={name} is not allowed" in capsys.readouterr().err


def test_what_is_there_already_is_not_touched(tree, tmp_path, capsys):
    assert run_convert(f"folder:{tree}", tmp_path) == 0
    before = shards(tmp_path / "pets" / "1.0.0")
    assert run_convert(f"folder:{tree}", tmp_path) == 2
    message = capsys.readouterr().err
    assert f"{tmp_path}/pets/1.0.0" in message and "delete or rename" in message
    assert shards(tmp_path / "pets" / "1.0.0") == before
    (tmp_path / "cats" / "1.0.0").mkdir(parents=True)
    assert run_convert(f"folder:{tree}", tmp_path, name="cats") == 2
    assert "is not a finished data set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--quality=80"], 2, "--quality=80 needs --short_side"),
        (["--short_side=0"], 2, "--short_side=0 is not allowed"),
        (["--short_side=9", "--quality=101"], 2, "--quality=101 is not allowed"),
        (["--restart_blocks=-1"], 2, "--restart_blocks=-1 is not allowed"),
        (["--workers=0"], 2, "--workers=0 is not allowed"),
        (["--shard_mb=0"], 2, "--shard_mb=0.0 is not allowed"),
        (["--splits=dev"], 5, "there is no split 'dev'"),
        (["--splits=val,validation"], 5, "would both be 'validation'"),
    ],
)
def test_bad_flags_write_nothing(tree, tmp_path, capsys, flags, code, message):
    data_dir = tmp_path / "tfds"
    assert run_convert(f"folder:{tree}", data_dir, *flags) == code
    assert message in capsys.readouterr().err
    assert not data_dir.exists()


def test_a_missing_source_and_an_unwritable_folder_are_named(tree, tmp_path, capsys):
    assert run_convert(f"folder:{tmp_path}/none", tmp_path) == 5
    assert f"{tmp_path}/none does not exist" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert run_convert(f"folder:{tree}", tmp_path / "file") == 2
    assert f"{tmp_path}/file/pets" in capsys.readouterr().err


def test_only_named_splits_are_converted(tree, tmp_path):
    assert run_convert(f"folder:{tree}", tmp_path, "--splits=val") == 0
    assert sources.splits("tfds:pets", str(tmp_path)) == ["validation"]


def test_an_example_that_cannot_be_read_leaves_no_half_shard(tmp_path):
    class Broken(Numbered):
        def __getitem__(self, index):
            if index == 500:  # not among those that are sampled
                raise DataError("train/n15075141/x.JPEG cannot be read")
            return super().__getitem__(index)

    source = Broken(imagenet_ids(), "{}_1.JPEG")
    with pytest.raises(DataError, match=r"x\.JPEG cannot be read"):
        convert("x", {"train": source}, "pets", str(tmp_path), Settings())
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["rtj_convert.lock"]


def test_re_encoding_starts_from_a_prepared_data_set_too(tree, tmp_path):
    assert run_convert(f"folder:{tree}", tmp_path) == 0
    assert run_convert("tfds:pets", tmp_path, name="again") == 0
    assert run_convert("tfds:pets", tmp_path, "--short_side=16", name="small") == 0
    for split in ("train", "validation"):
        first = examples("tfds:pets", split, tmp_path)
        assert examples("tfds:again", split, tmp_path) == first
        small = examples("tfds:small", split, tmp_path)
        assert [e["id"] for e in small] == [e["id"] for e in first]
        assert {min(Image.open(io.BytesIO(e["image"])).size) for e in small} == {16}


def test_no_tensorflow_is_imported(tree, tmp_path, repo_root):
    code = """
import sys
from rtj.data.prepare import __main__ as prepare
code = prepare.run(sys.argv[1:])
print({"tensorflow", "torch"} & set(sys.modules))
sys.exit(code)
"""
    arguments = ["convert", f"folder:{tree}", "--name=pets", f"--data_dir={tmp_path}"]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=repo_root,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "set()"
    assert Path(tmp_path, "pets", "1.0.0", "dataset_info.json").exists()
