"""Every command and every program of the README, run."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rtj.data.scenes import Scenes

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()

# What makes a training command end in seconds; everything else stays as written.
SHORT = {
    "model.width": 4,
    "model.small_images": True,
    "train.steps": 2,
    "train.eval_every": 0.0,
    "mesh.devices": 1,
}
SHORT_DIGITS = {"data.image_size": 14, "data.eval_resize": 14}
SHORT_OTHER = {"data.image_size": 32, "data.eval_resize": 32, "model.name": "resnet14d"}
SHORT_SCENES = {
    "data.image_size": 32,
    "data.train_split": "train[:16]",
    "data.eval_split": "test[:8]",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [
    line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()
]
LAUNCHERS = ["bash launch/local.sh", "bash launch/test.sh"]
# test_bench.py, test_bench_step.py and test_faults.py run them, in seconds.
ELSEWHERE = [
    "python -m rtj.bench input",
    "python -m rtj.bench checkpoint",
    "python -m rtj.bench loop",
    "python -m rtj.bench startup",
    "python -m rtj.bench step",
    "python -m rtj.bench step --precision=fp32 --batch=16 --size=128",
    "python -m rtj.bench compiled --topology=v5e:2x4",
    "python -m rtj.faults --kills=50",
]


def shortened(command: str) -> list[str]:
    """The command's words, `python` being this one, its training short."""
    words = shlex.split(command)
    assert words[:2] == ["python", "-m"], command
    if words[2] not in ("rtj.main", "rtj.sweep"):
        return [sys.executable, *words[1:]]
    other = "synthetic" in command or "tfds:" in command
    sizes = SHORT_OTHER if other else SHORT_DIGITS
    fields = SHORT | (SHORT_SCENES if ":scenes" in command else sizes)
    overrides = [f"--config.{field}={value}" for field, value in fields.items()]
    if words[2] == "rtj.sweep":
        overrides += ["--rows=cosine", "--seeds=1"]
    return [sys.executable, *words[1:], *overrides]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder to run in, with the repository's files where the README has them."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "docs").mkdir()
    Image.new("L", (28, 28), 255).save(folder / "digit.png")
    Image.fromarray(Scenes("test", 1)[0]["image"]).save(folder / "scene.png")
    return folder


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_readme_names_the_two_commands_first():
    assert COMMANDS[:2] == LAUNCHERS


@pytest.mark.slow
def test_every_python_command_of_the_readme_runs(folder):
    commands = [command for command in COMMANDS if command not in LAUNCHERS + ELSEWHERE]
    assert len(commands) >= 8
    for command in commands:
        done = run(shortened(command), folder)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        if "rtj.main" in command:
            assert json.loads(done.stdout.splitlines()[-1])["step"] == 2
    for figure in ("learning_curves.png", "scenes.png"):
        assert (folder / "docs" / figure).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_every_python_program_of_the_readme_runs(folder):
    programs = blocks("python")
    assert len(programs) >= 2
    for program in programs:
        done = run([sys.executable, "-c", program], folder)
        assert done.returncode == 0, f"{program}\n{done.stderr}"


def test_every_row_of_the_results_table_is_a_config():
    import rtj

    named = re.findall(r"`--config=configs/(\w+)\.py:([^`]*)`", README)
    assert len(named) == 18
    for file, argument in named:
        data = rtj.get_config(f"{file}:{argument}").data.name
        assert f"data={data}" in argument


def test_every_field_and_row_of_the_trick_table_exists():
    import rtj
    from rtj.fields import FIELDS

    table = README.split("## The tricks")[1].split("Rows stack")[0]
    names = re.findall(r"`([^`]+)`", table)
    fields = [name for name in names if "." in name]
    rows = [name for name in names if "." not in name]
    assert len(fields) > 10
    assert set(fields) <= set(FIELDS)
    for row in rows:
        teacher = ",teacher=runs/teacher" if row.startswith("distill") else ""
        rtj.get_config(f"ablation:{row}{teacher}")


@pytest.mark.slow
def test_local_sh_trains_the_digits_to_98_percent_from_a_bare_checkout(tmp_path):
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    checkout = tmp_path / "a checkout"
    for name in listed.stdout.splitlines():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    # Two cores, as a laptop has them, not the eight virtual devices of the tests.
    env = {
        k: v for k, v in os.environ.items() if not k.startswith(("JAX", "RTJ", "XLA"))
    }
    env |= {"PYTHON": sys.executable, "TFDS_DATA_DIR": str(tmp_path / "tfds")}
    command = ["bash", "launch/local.sh"]
    outputs = []
    for _ in range(2):
        done = subprocess.run(
            command, cwd=checkout, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout.splitlines())
    result = json.loads(outputs[0][-1])
    keys = "step epoch top1 top5 loss examples images_per_s workdir"
    assert set(result) == set(keys.split())
    assert result["examples"] == 1000
    assert result["top1"] >= 0.98
    assert json.loads(outputs[1][-1]) == result
    assert len(outputs[1]) == 2  # finished, and the result: nothing trained
