"""What the tool shows and what it finds wrong."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from rtj.data import sources
from rtj.data.prepare import __main__ as prepare
from rtj.data.prepare import imagenet_check
from rtj.data.prepare.image_progress import ImageProgress
from rtj.data.prepare.imagenet_check import NameCheck, problems_of_counts
from rtj.labels import imagenet_ids


def image(value, file_format="PNG"):
    buffer = io.BytesIO()
    Image.new("L", (9, 8), value).save(buffer, file_format)
    return buffer.getvalue()


def run_json(capsys, *arguments):
    """Exit code, the object on the last line of stdout, and stderr."""
    code = prepare.run([*arguments, "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out.splitlines()[-1]), captured.err


@pytest.fixture
def tree(tmp_path):
    """`folder:` of two classes: 3 and 5 images to train, 1 and 2 to test."""
    for split, counts in (("train", (3, 5)), ("test", (1, 2))):
        for name, count in zip(("cat", "dog"), counts, strict=True):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.png").write_bytes(image(i))
    return tmp_path / "images"


def test_show_lists_what_is_prepared_and_what_was_interrupted(
    digits_dir, tmp_path, capsys
):
    data_dir = tmp_path / "tfds"
    shutil.copytree(digits_dir, data_dir)
    left = data_dir / "cifar10" / "incomplete.ABC123_3.0.2"  # as TFDS names it
    left.mkdir(parents=True)
    (left / "part").write_bytes(bytes(1234))
    (data_dir / "weather" / "fog" / "1.0.0").mkdir(parents=True)
    (data_dir / "downloads" / "manual" / "1.0.0").mkdir(parents=True)
    stray = data_dir / "rtj_digits" / "1.0.0" / "incomplete.0a.x-train.tfrecord-0"
    stray.write_bytes(bytes(10))
    code, shown, _ = run_json(capsys, "show", f"--data_dir={data_dir}")
    assert code == 0
    assert (shown["data_dir"], shown["auto"]) == (str(data_dir), "digits")
    digits, fog = shown["prepared"]
    assert (digits["name"], digits["version"]) == ("rtj_digits", "1.0.0")
    assert digits["splits"] == {"test": 1000, "train": 4000}
    assert digits["formats"] == ["array_record"]
    files = [p for p in (data_dir / "rtj_digits").rglob("*") if p.is_file()]
    assert digits["bytes"] == sum(path.stat().st_size for path in files)
    assert (fog["name"], fog["config"], fog["formats"]) == (
        "weather",
        "fog",
        ["unfinished"],
    )
    paths = {left["path"]: left["bytes"] for left in shown["leftovers"]}
    assert paths == {str(left): 1234, fog["folder"]: 0, str(stray): 10}

    assert prepare.run(["show", f"--data_dir={data_dir}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = lines[2].split()
    assert words[:2] == ["rtj_digits", "1.0.0"] and "array_record" in words
    assert "data=auto is digits" in lines


def test_show_says_that_auto_is_a_prepared_imagenet(fake_imagenet, capsys):
    data_dir = fake_imagenet("tfrecord")
    _, shown, _ = run_json(capsys, "show", f"--data_dir={data_dir}")
    assert shown["auto"] == "imagenet"
    (found,) = shown["prepared"]
    assert (found["name"], found["version"]) == ("imagenet2012", "5.1.0")
    assert found["formats"] == ["tfrecord"]


def test_show_needs_a_data_dir(tmp_path, capsys):
    assert prepare.run(["show", f"--data_dir={tmp_path}/none"]) == 5
    assert f"{tmp_path}/none does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("decode", [[], ["--decode"]])
def test_verify_counts_a_folder(tree, capsys, decode):
    code, report, _ = run_json(capsys, "verify", f"folder:{tree}", *decode)
    assert code == 0 and report["problems"] == []
    counts = {
        split: (part["examples"], part["min_per_class"], part["max_per_class"])
        for split, part in report["splits"].items()
    }
    assert counts == {"train": (8, 3, 5), "test": (3, 1, 2)}


def test_verify_counts_the_digits(digits_dir, capsys):
    code, report, _ = run_json(capsys, "verify", "digits", f"--data_dir={digits_dir}")
    assert code == 0
    for split, each in (("train", 400), ("test", 100)):
        part = report["splits"][split]
        assert (part["min_per_class"], part["max_per_class"]) == (each, each)
        assert (part["classes"], part["examples"]) == (10, 10 * each)


def test_verify_reads_labels_of_a_folder_without_its_images(tree, capsys, monkeypatch):
    monkeypatch.setattr(sources.FolderSource, "__getitem__", None)
    assert prepare.run(["verify", f"folder:{tree}"]) == 0
    assert "train: 8 images, 3 to 5 in each of 2 classes" in capsys.readouterr().out


def test_verify_names_images_that_do_not_decode(tree, capsys):
    whole = image(0, "JPEG")
    (tree / "train" / "dog" / "cut.jpg").write_bytes(whole[:-30])
    (tree / "train" / "dog" / "whole.jpg").write_bytes(whole)
    (tree / "test" / "cat" / "empty.png").write_bytes(b"")
    assert prepare.run(["verify", f"folder:{tree}"]) == 0
    capsys.readouterr()
    code, report, error = run_json(capsys, "verify", f"folder:{tree}", "--decode")
    assert code == 5
    assert report["splits"]["train"]["undecodable"] == ["train/dog/cut.jpg"]
    assert report["splits"]["test"]["undecodable"] == ["test/cat/empty.png"]
    assert "2 problems" in error and "cut.jpg" in error and "To fix it" in error


def test_verify_names_classes_without_an_image(tmp_path, capsys):
    from rtj.data.memory import ArraySource
    from rtj.data.prepare.convert import Settings, convert

    images = np.zeros((3, 4, 4, 3), np.uint8)
    opened = {
        "train": ArraySource(images, [0, 3, 0], 4),
        "test": ArraySource(images, [1, 1, 1], 4),
    }
    convert("arrays", opened, "gaps", str(tmp_path), Settings())
    code, report, error = run_json(
        capsys, "verify", "tfds:gaps", f"--data_dir={tmp_path}"
    )
    assert code == 5
    assert report["splits"]["train"]["empty_classes"] == ["1", "2"]
    assert report["splits"]["test"]["empty_classes"] == ["0", "2", "3"]
    assert report["problems"] == ["train has no image of 1, 2"]
    assert "train has no image of 1, 2" in error
    arguments = ["tfds:gaps", "--splits=test", f"--data_dir={tmp_path}"]
    assert prepare.run(["verify", *arguments]) == 0


def test_imagenet_is_what_the_challenge_says():
    assert imagenet_check.IMAGES == {"train": 1_281_167, "validation": 50_000}
    assert imagenet_check.PER_CLASS == {"train": (732, 1300), "validation": (50, 50)}


def imagenet_like_counts():
    """1,281,167 images, 732 to 1,300 a class."""
    counts = np.full(1000, 1300)
    counts[:33] = 732
    counts[33] -= 1300 * 1000 - 33 * 568 - 1_281_167
    return counts


def test_imagenets_counts_have_no_problems():
    assert problems_of_counts("train", imagenet_like_counts()) == []
    assert problems_of_counts("validation", np.full(1000, 50)) == []
    assert problems_of_counts("test", np.zeros(1000)) == []


def test_a_missing_image_of_imagenet_is_counted():
    counts = imagenet_like_counts()
    counts[999] -= 3
    assert problems_of_counts("train", counts) == [
        "train has 1,281,164 images, 3 fewer than ImageNet's 1,281,167"
    ]
    counts = np.full(1000, 50)
    counts[2], counts[4] = 49, 51
    assert problems_of_counts("validation", counts) == [
        "validation must have 50 images a class: n01484850 has 49, n01494475 has 51"
    ]
    counts = imagenet_like_counts()
    counts[0] = 731
    first, second = problems_of_counts("train", counts)
    assert "1 fewer" in first
    assert second == "train must have 732 to 1300 images a class: n01440764 has 731"


def test_validation_images_are_known_by_name():
    check = NameCheck("validation")
    names = imagenet_ids()
    # The first three of the challenge's ground truth.
    for number, wnid in ((1, "n01751748"), (2, "n09193705"), (3, "n02105855")):
        file = f"ILSVRC2012_val_{number:08d}.JPEG"
        check.add(names.index(wnid) if number != 2 else 7, file)
    check.add(0, "other.jpg")
    wrong, missing = check.problems()
    assert wrong == (
        "validation has 1 images in a wrong class: ILSVRC2012_val_00000002.JPEG is in "
        f"{names[7]} and belongs in n09193705"
    )
    assert missing.startswith("validation lacks ILSVRC2012_val_00000004, ILSVRC2012")
    assert missing.endswith("and 49,987 more")


def test_verify_compares_a_folder_of_imagenet_with_imagenet(tmp_path, capsys):
    for wnid in imagenet_ids():
        folder = tmp_path / "train" / wnid
        folder.mkdir(parents=True)
        (folder / f"{wnid}_1.JPEG").touch()
    lost = tmp_path / "train" / "n01440764"
    (lost / "n01443537_7.JPEG").touch()
    code, report, error = run_json(capsys, "verify", f"folder:{tmp_path}")
    assert code == 5
    assert report["problems"][0] == (
        "train has 1,001 images, 1,280,166 fewer than ImageNet's 1,281,167"
    )
    assert "n01440764 has 2, n01443537 has 1" in report["problems"][1]
    assert report["problems"][2] == (
        "train has 1 images in a wrong class: n01443537_7.JPEG is in n01440764 and "
        "belongs in n01443537"
    )
    assert report["problems"][3] == "there is no split 'validation'"
    assert "ILSVRC2012_img_train.tar" in error


def test_verify_imagenet_asks_for_arrayrecord(fake_imagenet, capsys):
    data_dir = fake_imagenet("tfrecord")
    assert prepare.run(["verify", "imagenet", f"--data_dir={data_dir}"]) == 5
    assert "rtj.data.prepare convert tfrecord:" in capsys.readouterr().err


def test_labels_out_of_range_are_wrong_and_a_test_split_may_lack_them(
    tmp_path, capsys, monkeypatch
):
    from rtj.data.memory import ArraySource

    images = np.zeros((4, 4, 4, 3), np.uint8)
    parts = {
        "train": ArraySource(images, [0, 1, 2, -1], 2),
        "test": ArraySource(images, [-1, -1, -1, -1], 2),
    }
    monkeypatch.setattr(sources, "splits", lambda name, data_dir: list(parts))
    monkeypatch.setattr(sources, "open_source", lambda name, split, **_: parts[split])
    code, report, _ = run_json(capsys, "verify", "tfds:odd")
    assert code == 5
    assert report["splits"]["test"]["unlabelled"] == 4
    assert report["problems"] == [
        "train has 2 labels that are not 0 to 1: 2 has 2, 3 has -1"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: command"),
        (["shew"], "invalid choice: 'shew'"),
        (["show", "--data-dir=x"], "unrecognized arguments: --data-dir=x"),
        (["verify"], "required: NAME"),
        (["convert", "digits"], "--name is missing"),
        (["convert", "digits", "--name=x", "--workers=two"], "invalid int value"),
    ],
)
def test_bad_arguments_get_the_usage(capsys, arguments, message):
    assert prepare.run(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert "usage: python -m rtj.data.prepare" in error or "--name" in message


def test_unknown_data_sets_list_the_allowed_ones(capsys):
    for command in (["verify", "imagnet"], ["convert", "imagnet", "--name=x"]):
        assert prepare.run(command) == 5
        assert "did you mean imagenet" in capsys.readouterr().err


def test_progress_is_a_line_every_ten_seconds(capsys):
    now = [0.0]
    progress = ImageProgress("convert", 1000, done=100, clock=lambda: now[0])
    for _ in range(30):
        now[0] += 1
        progress.add(10)
    progress.close()
    assert capsys.readouterr().out.splitlines() == [
        "convert 200/1000 images (20.0%) 10 img/s 0:01:20 left",
        "convert 300/1000 images (30.0%) 10 img/s 0:01:10 left",
        "convert 400/1000 images (40.0%) 10 img/s 0:01:00 left",
        "convert 400/1000 images (40.0%) 10 img/s 0:01:00 left",
    ]


def test_ctrl_c_says_that_the_same_command_goes_on(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "verify", interrupted)
    assert prepare.run(["verify", "digits"]) == 3
    assert "the same command goes on" in capsys.readouterr().err
