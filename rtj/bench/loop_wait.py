"""How much of a training step is spent waiting for input."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rtj.config import set_field
from rtj.config_args import get_config
from rtj.loop import train
from rtj.metrics import read_metrics


def measure(folder: Path, workdir: Path, steps: int) -> dict[str, dict[str, float]]:
    """Trains a small network on synthetic data and on JPEGs, for at least 30 steps.

    Returns step_s, input_wait_s and their quotient, share, of each.

    A step of 32 images of 64 pixels takes this machine longer than their decoding, so
    the share says what the loop itself costs.
    """
    return {
        "synthetic images": _share("synthetic", workdir / "synthetic", steps),
        "JPEGs": _share(f"folder:{folder}", workdir / "jpeg", steps),
    }


def _share(data: str, workdir: Path, steps: int) -> dict[str, float]:
    with redirect_stdout(StringIO()):
        train(small_config(data, steps), workdir)
    lines = read_metrics(workdir, ["speed"])[1:]
    step_s = sum(line["step_s"] for line in lines) / len(lines)
    wait_s = sum(line["input_wait_s"] for line in lines) / len(lines)
    return {"step_s": step_s, "input_wait_s": wait_s, "share": wait_s / step_s}


def small_config(data: str, steps: int) -> ConfigDict:
    """ResNet-18 of width 32 on 32 images of 64 pixels, for so many steps."""
    config = get_config(f"ablation:baseline,data={data}")
    changes: dict[str, Any] = {
        "model.name": "resnet18",
        "model.width": 32,
        "model.bn_group_size": 32,
        "train.batch_size": 32,
        "train.steps": steps,
        "train.log_every": 10,
        "train.eval_every": 0.0,
        "train.save_every": 0.0,
        "data.image_size": 64,
        "data.eval_resize": 64,
        "data.eval_split": "train[:1%]" if data != "synthetic" else "validation",
        "mesh.devices": 1,
    }
    for field, value in changes.items():
        set_field(config, field, value)
    return config
