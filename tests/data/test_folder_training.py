"""Training on ImageNet's own layout, and on the same images in tar files."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

import rtj
from rtj.config import flatten, set_field
from rtj.data import sources
from rtj.data.pipeline import eval_batches, train_batches
from rtj.data.prepare import __main__ as prepare
from rtj.labels import imagenet_ids

WNIDS = ("n01440764", "n02099601", "n03888257")
TRAIN, VAL = 41, 13


@pytest.fixture
def mini_imagenet(tmp_path):
    """41 train images in 3 class folders, 13 in a flat val with Kaggle's solution."""
    root = tmp_path / "imagenet"
    rng = np.random.default_rng(0)

    def save(path, label):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 60, (24 + label, 30, 3), np.uint8)
        pixels[..., label] += 150
        Image.fromarray(pixels).save(path, "JPEG")

    for number in range(TRAIN):
        wnid = WNIDS[number % 3]
        save(root / "train" / wnid / f"{wnid}_{number}.JPEG", number % 3)
    rows = ["ImageId,PredictionString"]
    for number in range(1, VAL + 1):
        name = f"ILSVRC2012_val_{number:08d}"
        save(root / "val" / f"{name}.JPEG", number % 3)
        rows.insert(1, f"{name},{WNIDS[number % 3]} 1 1 20 20")
    (root / "LOC_val_solution.csv").write_text("\n".join(rows) + "\n")
    return root


def pack(root, target):
    """The same images as WebDataset shards."""
    target.mkdir()
    for split in ("train", "val"):
        source = sources.open_source(f"folder:{root}", split)
        with tarfile.open(target / f"{split}-000000.tar", "w") as archive:
            for number in range(len(source)):
                example = source[number]
                image, label = example["image"], b"%d" % example["label"]
                assert isinstance(image, bytes)
                for suffix, data in (("jpg", image), ("cls", label)):
                    info = tarfile.TarInfo(f"{number:06d}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))


@pytest.mark.slow
def test_imagenets_layout_trains_and_every_held_out_image_counts_once(
    mini_imagenet, tiny_config, tmp_path
):
    config = tiny_config(
        **{
            "train.steps": 3,
            "data.name": f"folder:{mini_imagenet}",
            "data.eval_split": "",
        }
    )
    result = rtj.train(config, tmp_path / "run")
    assert (result["step"], result["examples"]) == (3, VAL)
    assert result["epoch"] == pytest.approx(3 * 32 / TRAIN)
    assert result["top1"] * VAL == pytest.approx(round(result["top1"] * VAL))
    assert np.isfinite(result["loss"])


def test_the_same_images_in_tar_files_give_the_same_batches(mini_imagenet, tmp_path):
    pack(mini_imagenet, tmp_path / "tars")
    batches = []
    for name in (f"folder:{mini_imagenet}", f"tar:{tmp_path}/tars"):
        train = train_batches(
            sources.open_source(name, "train"),
            batch_size=32,
            image_size=14,
            seed=0,
            start_step=0,
            stop_step=3,
            crop_area=(0.08, 1.0),
            crop_ratio=(3 / 4, 4 / 3),
        )
        held_out = eval_batches(
            sources.open_source(name, sources.eval_split(name)),
            batch_size=8,
            image_size=14,
            eval_resize=16,
        )
        batches.append([*train, *held_out])
    folder, tar = batches
    assert len(folder) == len(tar) == 3 + 2
    for one, other in zip(folder, tar, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.fixture
def thousand_classes(tmp_path):
    """A train image of every ImageNet class, and 50 in a flat val."""
    root = tmp_path / "unpacked"
    for wnid in imagenet_ids():
        folder = root / "train" / wnid
        folder.mkdir(parents=True)
        Image.new("RGB", (20, 16), (int(wnid[-3:]) % 256, 90, 9)).save(
            folder / f"{wnid}_1.JPEG"
        )
    (root / "val").mkdir()
    rows = ["ImageId,PredictionString"]
    for number in range(1, 51):
        name = f"ILSVRC2012_val_{number:08d}"
        Image.new("RGB", (16, 20), (number, 9, 9)).save(root / "val" / f"{name}.JPEG")
        rows.append(f"{name},{imagenet_ids()[number * 7]} 1 1 9 9")
    (root / "LOC_val_solution.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.mark.slow
def test_an_unpacked_imagenet_goes_through_prepare_train_and_evaluate(
    thousand_classes, tiny_config, tmp_path
):
    convert = ["convert", f"folder:{thousand_classes}", "--name=imagenet2012"]
    assert prepare.run([*convert, f"--data_dir={tmp_path}/tfds"]) == 0
    config = rtj.get_config(f"ablation:label_smoothing,data_dir={tmp_path}/tfds")
    assert config.data.name == "imagenet"  # data=auto
    tiny = tiny_config(**{"train.steps": 2, "train.log_every": 1})
    for field in ("model.name", "model.width", "data.image_size", "data.eval_resize"):
        set_field(config, field, flatten(tiny)[field])
    changes = {"model.bn_group_size": 16, "train.batch_size": 32, "train.steps": 2}
    for field, value in (changes | {"mesh.devices": 1}).items():
        set_field(config, field, value)
    result = rtj.train(config, tmp_path / "run")
    assert (result["step"], result["examples"]) == (2, 50)
    assert result["epoch"] == pytest.approx(64 / 1000)
    again = rtj.evaluate(config, tmp_path / "run")
    assert (again["top1"], again["loss"]) == (result["top1"], result["loss"])
