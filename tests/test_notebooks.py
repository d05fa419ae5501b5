"""The notebooks, as they are stored and as they run here."""

import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

from rtj.errors import ConfigError
from rtj.study.live_curve import LiveCurve

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
NAMES = ["tour", "ablation"]
MACHINE_PATH = re.compile(r"/(tmp|home|root|Users|var|opt|usr|work)\b|site-packages")

# What the paper's tables 4 and 6 add from row to row.
STACK = {
    "linear_scaling": "tricks.linear_scaling: False -> True",
    "warmup": "tricks.warmup_epochs: 0.0 -> 1.0",
    "zero_gamma": "tricks.zero_gamma: False -> True",
    "no_bias_decay": "tricks.no_bias_decay: False -> True",
    "low_precision": "tricks.precision: fp32 -> bf16",
    "efficient": "model.name: resnet14 -> resnet14d",
    "cosine": "tricks.schedule: step -> cosine",
    "label_smoothing": "tricks.label_smoothing: 0.0 -> 0.1",
    "mixup": "tricks.mixup: 0.0 -> 0.2",
    "distill_mixup": "tricks.teacher:  -> runs/teacher",
}


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> set[str]:
    """The streams and MIME types that a cell shows."""
    return {
        kind
        for output in cell.outputs
        for kind in ([output.name] if "name" in output else output.get("data", {}))
    }


def text(notebook: Any, cell_id: str) -> str:
    """What a cell prints and returns, as plain text, without its figures."""
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    return "".join(
        output.text if "text" in output else output.data["text/plain"]
        for output in cell.outputs
        if "image/png" not in output.get("data", {})
    )


def numbers(found: str) -> list[float]:
    return [float(word) for word in re.findall(r"\d+\.\d+", found)]


def execute(name: str, folder: Path) -> Any:
    """The notebook after a run by this Python in an empty folder, which stays empty."""
    spec = folder / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(about))
    cwd = folder / "cwd"
    cwd.mkdir()
    notebook = read(name)
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(spec.parent)]),
        ),
        resources={"metadata": {"path": str(cwd)}},
        timeout=600,
    )
    own = {
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "JAX_NUM_CPU_DEVICES": "1",  # as a laptop has it, not the eight of the tests
    }
    # Compiled as for a user: it has hundreds of steps to run, unlike most tests.
    env = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    client.execute(env=env | own)
    assert list(cwd.iterdir()) == []
    return notebook


def check_shows_what_is_stored(name: str, executed: Any) -> None:
    shown = {cell.id: kinds(cell) for cell in code_cells(executed)}
    assert {cell.id: kinds(cell) for cell in code_cells(read(name))} == shown


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_notebook_was_run_once_from_top_to_bottom(name):
    cells = code_cells(read(name))
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert any("image/png" in kinds(cell) for cell in cells)


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_notebook_tells_nothing_of_the_machine(name):
    notebook = read(name)
    for cell in code_cells(notebook):
        assert "stderr" not in kinds(cell)
        for output in cell.outputs:
            output.get("data", {}).pop("image/png", None)
    assert not MACHINE_PATH.search(nbformat.writes(notebook))
    assert notebook.metadata == {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_notebook_is_small(name):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 400_000


@pytest.mark.parametrize("command", [["format", "--check"], ["check"]])
def test_ruff_finds_nothing_in_the_notebooks(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, *map("{}.ipynb".format, NAMES)],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_tour_runs_and_ends_with_a_trained_network(tmp_path):
    executed = execute("tour", tmp_path)
    check_shows_what_is_stored("tour", executed)
    # torchvision's and gluon-cv's counts of ResNet-50 and of its variant D.
    assert "25,557,032" in text(executed, "summary")
    counts = re.findall(r"\d\d,\d{3},\d{3}", text(executed, "variants"))
    assert counts == ["25,557,032"] * 2 + ["25,576,264"] * 2
    assert numbers(text(executed, "apply")) == [0.1] * 10
    # (K - 1) (1 - eps) / eps; in the uniform form eps is 0.09.
    gaps = [math.log(9 * 0.9 / 0.1)] * 2 + [math.log(9 * 0.91 / 0.09)] * 2
    gaps += [math.log(999 * 0.9 / 0.1)]
    shown = [*(round(gap, 2) for gap in gaps[:-1]), round(gaps[-1], 1)]
    assert numbers(text(executed, "gap-plot")) == shown
    (top1,) = numbers(text(executed, "result"))
    assert top1 > 85
    last_row = text(executed, "load").splitlines()[-1].split()
    assert float(last_row[3]) == pytest.approx(top1 / 100, abs=1e-3)
    right, of = re.findall(r"\d+", text(executed, "predict-plot"))
    assert int(right) > 0.75 * int(of)
    (wrong,) = re.findall(r"(\d+) mistakes", text(executed, "mistakes"))
    assert int(wrong) == round(1000 - 10 * top1)


@pytest.mark.slow
def test_the_ablation_runs_and_compares_three_trained_rows(tmp_path):
    executed = execute("ablation", tmp_path)
    check_shows_what_is_stored("ablation", executed)
    blocks = re.findall(r"(?m)^(\w+)\n((?: .*\n)+)", text(executed, "difference"))
    assert [row for row, _ in blocks] == list(STACK)
    for row, changes in blocks:
        assert STACK[row] in changes
    table = text(executed, "table").splitlines()
    assert [line.split(" off ")[0].strip() for line in table if " off " in line] == [
        "distillation"
    ]
    rows = ["efficient", "cosine", "label_smoothing"]
    trained = numbers(text(executed, "train"))
    assert re.findall(r"(?m)^(\w+):", text(executed, "train")) == rows
    assert min(trained) > 75
    lines = [line.split() for line in text(executed, "results").splitlines()[1:]]
    assert [line[0] for line in lines] == rows
    assert [100 * float(line[2]) for line in lines] == pytest.approx(trained, abs=0.06)
    last_epoch = numbers(text(executed, "epochs").splitlines()[-1])
    assert [100 * top1 for top1 in last_epoch[1:]] == pytest.approx(trained, abs=0.06)


@pytest.fixture
def drawings(monkeypatch):
    """The PNGs that a notebook would be given, each with how: display or update."""
    from IPython.display import DisplayHandle

    found: list[tuple[str, bytes]] = []
    for how in ("display", "update"):
        monkeypatch.setattr(
            DisplayHandle,
            how,
            lambda self, image, how=how: found.append((how, image.data)),
        )
    return found


def test_a_live_curve_is_replaced_every_so_many_steps_and_at_the_last(drawings):
    curve = LiveCurve(steps=7, every=3)
    drawn_at = []
    for step in range(1, 8):
        before = len(drawings)
        curve(step, {"loss": 1 / step, "top1": step / 7, "lr": 0.1})
        drawn_at += [step] * (len(drawings) - before)
    assert drawn_at == [3, 6, 7]
    assert [how for how, _ in drawings] == ["display", "update", "update"]
    assert Image.open(io.BytesIO(drawings[-1][1])).size == (640, 208)
    left, right = curve.figure.axes
    steps = range(1, 8)
    assert np.array_equal(left.lines[0].get_xydata(), [[k, 1 / k] for k in steps])
    assert np.array_equal(right.lines[0].get_xydata(), [[k, k / 7] for k in steps])
    assert left.get_xlim() == (0, 7)
    assert left.get_ylim()[1] >= 1 and right.get_ylim()[0] <= 1 / 7


@pytest.mark.parametrize(
    ("module", "message"),
    [("matplotlib", r"rtj\[plot\]"), ("IPython", "pip install ipython")],
)
def test_a_live_curve_without_its_packages_says_what_to_install(
    monkeypatch, module, message
):
    loaded = [name for name in sys.modules if name.split(".")[0] == module]
    for name in {*loaded, module}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"{module} is missing.*{message}"):
        LiveCurve(steps=1)
