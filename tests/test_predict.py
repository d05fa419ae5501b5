"""`python -m rtj.predict`: right classes, right pixels, unreadable images."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import rtj.predict
from rtj.errors import CheckpointError
from rtj.export import export_network
from rtj.labels import imagenet_ids
from rtj.preprocess import Preprocess, paper
from rtj.serving import Network
from rtj.weights.metadata import parse
from rtj.weights.names import to_torch
from tests.weights import torch_files
from tests.weights.networks import NAME, make_run, random_variables, tiny_model

HOW = Preprocess(32, 36, "bicubic", (120.0, 110.0, 100.0), (60.0, 61.0, 62.0))
COUNT = 7


@pytest.fixture(scope="module")
def network() -> Network:
    model = tiny_model()
    labels = tuple(f"label {i}" for i in range(10))
    return Network(NAME, model, random_variables(model), HOW, "", labels, "")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    export_network(network, path, format="safetensors")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images of several sizes, modes and formats, two folders deep."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    rng = np.random.default_rng(0)
    kinds = [("RGB", "png"), ("L", "png"), ("RGBA", "png"), ("RGB", "jpg")]
    for i in range(COUNT):
        mode, suffix = kinds[i % len(kinds)]
        size = (40 + 9 * i, 60, 3)
        image = Image.fromarray(rng.integers(0, 256, size, np.uint8)).convert(mode)
        image.save(folder / ("more" if i % 2 else ".") / f"{i}.{suffix}")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs the tool: (exit code, stdout lines, stderr lines)."""

    def run(*args: object) -> tuple[int, list[str], list[str]]:
        code = rtj.predict.run([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


def expected(network: Network, path: Path) -> np.ndarray:
    """Probabilities by torchvision's steps: Resize, CenterCrop, Normalize."""
    how = network.preprocess
    image = Image.open(path).convert("RGB")
    scale = how.resize / min(image.size)
    size = tuple(
        how.resize if s == min(image.size) else int(s * scale) for s in image.size
    )
    image = image.resize(size, Image.Resampling.BICUBIC)  # type: ignore[arg-type]
    left, top = (round((s - how.size) / 2) for s in image.size)
    crop = image.crop((left, top, left + how.size, top + how.size))
    pixels = (np.asarray(crop, np.float64) - how.mean) / np.array(how.std)
    variables = network.variables
    logits: Any = network.model.apply(variables, pixels[None].astype(np.float32))
    return np.asarray(jax.nn.softmax(logits[0]))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [3, 32])
def test_json_holds_the_five_likeliest_classes_of_every_image(
    command, network, weights, folder, batch
):
    code, out, _ = command(f"--weights={weights}", "--json", f"--batch={batch}", folder)
    assert code == 0
    report = json.loads(out[-1])
    assert (report["model"], report["failed"]) == (NAME, [])
    paths = [Path(image["path"]) for image in report["images"]]
    assert sorted(path.stem for path in paths) == [str(i) for i in range(COUNT)]
    for path, image in zip(paths, report["images"], strict=True):
        probabilities = expected(network, path)
        order = np.argsort(-probabilities)[:5]
        assert [p["class"] for p in image["predictions"]] == list(order)
        assert [p["name"] for p in image["predictions"]] == [
            f"label {i}" for i in order
        ]
        np.testing.assert_allclose(
            [p["probability"] for p in image["predictions"]],
            probabilities[order],
            rtol=1e-4,
        )


def test_the_table_names_the_classes_and_where_all_came_from(command, weights, folder):
    code, out, _ = command(f"--weights={weights}", folder / "0.png")
    assert code == 0
    assert out[0].startswith(
        "images (the weights' metadata): shorter side 36 (bicubic)"
    )
    assert out[1] == "class names: the weights' metadata"
    assert out[2] == str(folder / "0.png")
    assert len(out) == 3 + 5
    assert all("%  label " in line for line in out[3:])


def test_a_file_whose_name_is_no_text_is_printed(command, weights, folder, tmp_path):
    copy = tmp_path / os.fsdecode(b"caf\xe9.png")
    copy.write_bytes((folder / "0.png").read_bytes())
    code, out, _ = command(f"--weights={weights}", tmp_path)
    assert code == 0
    assert out[2] == str(tmp_path / "caf\\udce9.png")


def test_globs_and_files_are_taken_in_order(command, weights, folder):
    arguments = [folder / "more" / "*", folder / "0.png"]
    _, out, _ = command(f"--weights={weights}", "--json", *arguments)
    stems = [Path(image["path"]).stem for image in json.loads(out[-1])["images"]]
    assert stems == ["1", "3", "5", "0"]


def test_unreadable_images_are_named_and_counted_and_the_others_predicted(
    command, weights, folder, tmp_path
):
    (tmp_path / "empty").mkdir()
    bad = tmp_path / "bad.png"
    bad.write_bytes((folder / "0.png").read_bytes()[:60])
    arguments = [folder / "0.png", bad, tmp_path / "gone.png", tmp_path / "empty"]
    code, out, err = command(
        f"--weights={weights}", "--json", *arguments, folder / "2.png"
    )
    assert code == 5
    assert err[-1] == "rtj: 3 of 5 images could not be read"
    report = json.loads(out[-1])
    assert [Path(i["path"]).name for i in report["images"]] == ["0.png", "2.png"]
    for name in ("bad.png", "gone.png", "empty"):
        assert any(name in line for line in err[:-1])
        assert any(name in failed["path"] for failed in report["failed"])


@pytest.mark.slow
def test_the_module_runs_as_a_command(run_rtj, weights):
    done = run_rtj([f"--weights={weights}", "--json", "gone.png"], "rtj.predict")
    assert done.returncode == 5
    assert json.loads(done.stdout.splitlines()[-1])["images"] == []
    assert "Traceback" not in done.stderr


def test_no_readable_image_at_all_exits_5(command, weights, tmp_path):
    code, _, err = command(f"--weights={weights}", tmp_path / "*.png")
    assert (code, err[-1]) == (5, "rtj: 1 of 1 images could not be read")


def test_weights_without_metadata_get_the_papers_images_and_numbers_for_names(
    command, network, folder, tmp_path
):
    model = tiny_model(width=64)
    path = tmp_path / "w.pth"
    torch_files.save(path, to_torch(NAME, random_variables(model)))
    code, out, _ = command(f"--weights={path}", f"--model={NAME}", folder / "0.png")
    assert code == 0
    assert out[0].startswith(
        "images (the paper, section 2.1): shorter side 256 (bilinear), centre crop 224"
    )
    assert out[1] == "class names: none known: numbers of the classes"
    assert {line.split()[-1] for line in out[3:]} < {str(i) for i in range(10)}


def test_the_papers_crop_of_inception_keeps_the_ratio_of_224_to_256():
    assert (paper(224).resize, paper(299).resize) == (256, 342)


@pytest.mark.parametrize("suffix", ["txt", "json"])
def test_class_names_come_from_a_file(command, weights, folder, tmp_path, suffix):
    names = [f"animal {i}" for i in range(10)]
    path = tmp_path / f"names.{suffix}"
    path.write_text(json.dumps(names) if suffix == "json" else "\n".join(names))
    _, out, _ = command(f"--weights={weights}", f"--classes={path}", folder / "0.png")
    assert all("animal" in line for line in out[3:])


def test_a_file_with_another_number_of_names_is_refused(
    command, weights, folder, tmp_path
):
    path = tmp_path / "names.txt"
    path.write_text("cat\ndog\n")
    code, _, err = command(f"--weights={weights}", f"--classes={path}", folder)
    assert code == 2
    assert "has 2 names, the network 10 classes" in err[0]


def test_imagenets_names_are_its_wordnet_ids_in_order():
    ids = imagenet_ids()
    assert (len(ids), ids[0], ids[-1]) == (1000, "n01440764", "n15075141")
    assert list(ids) == sorted(ids)


def test_a_run_predicts_with_its_own_images_and_without_its_data_set(
    command, tiny_config, folder, tmp_path
):
    make_run(tmp_path / "run", tiny_config())
    flags = [f"--checkpoint={tmp_path / 'run'}", "--json", folder / "0.png"]
    code, out, _ = command(*flags)
    assert code == 0
    assert out[0].startswith("images (the run's config): shorter side 14 (bilinear)")
    assert len(json.loads(out[-1])["images"][0]["predictions"]) == 5


TIMM = {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3}


def test_timms_config_is_read_as_timm_reads_it():
    config = TIMM | {"crop_pct": 0.95, "interpolation": "bicubic", "tag": "a1_in1k"}
    about = parse(config | {"architecture": "resnet50", "num_classes": 1000}, "w")
    assert (about.model, about.data_set) == ("resnet50b", "imagenet")
    # floor(224 / 0.95) = 235
    assert about.preprocess == Preprocess(
        224, 235, "bicubic", (127.5,) * 3, (127.5,) * 3
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop_pct": 1.5}, "crop_pct=1.5; allowed: in"),
        ({"crop_mode": "squash"}, "crop_mode='squash'; allowed: center"),
        ({"interpolation": "random"}, "interpolation='random'; allowed: nearest"),
        ({"mean": [128, 128, 128]}, r"mean=.*allowed: three numbers in \[0, 1\]"),
        ({"std": [0, 1, 1]}, "std="),
        ({"input_size": [1, 28, 28]}, "input_size="),
        ({"num_classes": 3, "label_names": ["a"]}, "1 label_names for num_classes=3"),
    ],
)
def test_wrong_metadata_is_one_error_that_names_the_key(wrong, message):
    with pytest.raises(CheckpointError, match=message):
        parse(TIMM | wrong, "w")
