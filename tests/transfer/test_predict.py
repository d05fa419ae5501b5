"""`python -m rtj.predict` on runs of both tasks: files, numbers and errors."""

import json
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import rtj.predict
from rtj.checkpoint import restore_newest
from rtj.inputs import evaluation_batches
from rtj.transfer.predict_command import file_names
from tests.transfer.folders import BROKEN, HELD_OUT
from tests.transfer.runs import TASKS

TOGETHER = "transfer runs"
GOOD = {name: size for name, size in HELD_OUT.items() if name not in BROKEN}


@pytest.fixture
def command(capsys):
    """Runs the tool: (exit code, the report of --json, stderr lines)."""

    def run(*args):
        capsys.readouterr()  # of a run that this test was the first to need
        code = rtj.predict.run([str(arg) for arg in args])
        captured = capsys.readouterr()
        lines = captured.out.splitlines()
        return code, json.loads(lines[-1]) if lines else None, captured.err.splitlines()

    return run


def held_out(run):
    """The folder and the prefix of the held-out images' files."""
    if run.config.task == "segmentation":
        return run.root / "val" / "images", ""
    return run.root / "JPEGImages", "val_"


@pytest.fixture(scope="module")
def evaluated(folder_run, built):
    """Gives what the evaluation step says of each held-out example, in order."""

    def of(task):
        run = folder_run(task)
        experiment = built(run.config)
        folder = run.workdir / "checkpoints"
        state = restore_newest(folder, experiment.init_state()).state
        with closing(evaluation_batches(experiment)) as batches:
            return [
                jax.device_get(experiment.eval_step(state.variables, batch))
                for batch in batches
            ]

    return of


@pytest.fixture
def predicted(command, folder_run, tmp_path):
    """Gives the report of a run on its held-out images, and where the files are."""

    def of(task):
        run = folder_run(task)
        folder, prefix = held_out(run)
        images = [folder / f"{prefix}{name}.jpg" for name in HELD_OUT]
        flags = [f"--task={task}", f"--checkpoint={run.workdir}", "--json", "--score=0"]
        code, report, errors = command(*flags, f"--out={tmp_path}", *images)
        assert code == 5
        assert (report["model"], report["task"]) == ("resnet14d", task)
        found = [Path(image["path"]) for image in report["images"]]
        assert found == images[: len(GOOD)]
        failed = [Path(image["path"]).stem for image in report["failed"]]
        assert failed == [prefix + name for name in BROKEN]
        assert errors[-1] == "rtj: 2 of 7 images could not be read"
        for name in failed:
            assert any(f"{name}.jpg" in line for line in errors[:-1])
        for image, size in zip(report["images"], GOOD.values(), strict=True):
            assert Path(image["picture"]).parent == tmp_path
            with Image.open(image["picture"]) as picture:
                width, height = picture.size
            # Small images are enlarged by a whole factor; below masks stand names.
            names = height - width // size[1] * size[0]
            assert width % size[1] == 0
            assert names > 0 if task == "segmentation" else names == 0
        return report["images"], run

    return of


@pytest.mark.slow
def test_masks_are_what_evaluation_counts_and_of_the_images_size(predicted, evaluated):
    images, run = predicted("segmentation")
    confusion = np.zeros((3, 3), int)
    for image, (name, size) in zip(images, GOOD.items(), strict=True):
        mask = np.asarray(Image.open(image["mask"]))
        assert (mask.dtype, mask.shape) == (np.uint8, size)
        truth = np.asarray(Image.open(run.root / "val" / "masks" / f"{name}.png"))
        counted = truth != 255
        np.add.at(confusion, (truth[counted], mask[counted]), 1)
        shares = {found["class"]: found["share"] for found in image["classes"]}
        assert sorted(shares.values(), reverse=True) == [*shares.values()]
        for label, share in shares.items():
            assert share == pytest.approx((mask == label).mean())
        names = ("background", "red", "green")
        assert all(names[f["class"]] == f["name"] for f in image["classes"])
    steps = evaluated("segmentation")
    np.testing.assert_array_equal(confusion, sum(step["confusion"] for step in steps))


@pytest.mark.slow
def test_boxes_are_evaluations_in_pixels_of_the_image(predicted, evaluated):
    images, _ = predicted("detection")
    rows = {}
    for step in evaluated("detection"):
        for row, index in enumerate(step["index"].tolist()):
            if index >= 0 and step["valid"][row]:
                there = step["mask"][row]
                keys = ("labels", "scores", "boxes")
                rows[index] = [step[key][row][there] for key in keys]
    assert sorted(rows) == [0, 1, 2, 3, 4]
    for index, (image, size) in enumerate(zip(images, GOOD.values(), strict=True)):
        found, (labels, scores, boxes) = image["detections"], rows[index]
        assert len(found) == len(labels) > 0
        got = np.array([one["box"] for one in found])
        np.testing.assert_allclose(got, boxes, atol=1e-2)
        np.testing.assert_allclose([one["score"] for one in found], scores, atol=1e-4)
        assert [one["class"] for one in found] == labels.tolist()
        assert all(("red", "green")[one["class"]] == one["name"] for one in found)
        assert got.min() >= 0
        assert got[:, 2].max() <= size[1] + 1e-3
        assert got[:, 3].max() <= size[0] + 1e-3


@pytest.mark.slow
def test_detections_below_the_score_are_not_reported(command, folder_run, tmp_path):
    run = folder_run("detection")
    folder, _ = held_out(run)
    newest = run.workdir / "checkpoints" / "4"  # of which it may be told, too
    flags = [f"--checkpoint={newest}", f"--out={tmp_path}", "--json", "--score=1"]
    code, report, _ = command(*flags, folder / "val_a.jpg")
    assert code == 0
    assert [image["detections"] for image in report["images"]] == [[]]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_images_none_of_which_can_be_read_are_exit_5_and_named(
    command, folder_run, task, tmp_path
):
    run = folder_run(task)
    (tmp_path / "bad.png").write_bytes(b"no image")
    flags = [f"--checkpoint={run.workdir}", f"--out={tmp_path / 'out'}", "--json"]
    images = [tmp_path / "bad.png", tmp_path / "gone.png"]
    code, report, errors = command(*flags, *images)
    assert (code, report["images"]) == (5, [])
    assert [image["path"] for image in report["failed"]] == [*map(str, images)]
    assert errors[-1] == "rtj: 2 of 2 images could not be read"


def test_another_task_than_the_checkpoints_is_exit_2(command, folder_run, tmp_path):
    run = folder_run("segmentation")
    flags = [f"--checkpoint={run.workdir}", f"--out={tmp_path / 'out'}"]
    for task in ("detection", "classification"):
        code, _, errors = command(f"--task={task}", *flags, "x.png")
        assert code == 2
        assert errors == [
            f"rtj: --task={task}, but what is given was trained for segmentation; "
            f"allowed: segmentation, or --checkpoint=WORKDIR of a run of {task}"
        ]
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_run_is_exit_6_and_says_so(command, tmp_path):
    flags = ["--task=detection", f"--checkpoint={tmp_path}"]
    code, _, (line,) = command(*flags, "x.png")
    assert code == 6
    assert f"{str(tmp_path)!r} holds no checkpoint of an rtj run" in line


def test_a_score_that_is_none_is_exit_2(command, folder_run):
    run = folder_run("detection")
    for score in ("7", "-1", "nan"):
        code, _, (line,) = command(
            f"--checkpoint={run.workdir}", f"--score={score}", "x.png"
        )
        assert code == 2 and "allowed: 0 to 1" in line


def test_no_file_is_written_over_another():
    paths = [Path(name) for name in ("a.jpg", "b/a.png", "a-2.png", "c/a.jpg")]
    paths += [Path("a.mask.png"), Path("c/a-2.jpg")]
    names = file_names(paths)
    written = [f"{n}{end}" for n in names for end in (".png", ".mask.png")]
    assert len(set(written)) == len(written)
    assert names[:2] == ["a", "a-2"]


def test_images_are_not_written_over(command, folder_run, tmp_path):
    run = folder_run("segmentation")
    folder, _ = held_out(run)
    with Image.open(folder / "a.jpg") as image:
        image.save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    flags = [f"--checkpoint={run.workdir}", f"--out={tmp_path}"]
    code, _, (line,) = command(*flags, tmp_path / "a.png")
    assert code == 2
    assert f"--out={str(tmp_path)!r}" in line and "a.png" in line
    assert (tmp_path / "a.png").read_bytes() == before
