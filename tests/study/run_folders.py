"""Run folders written by hand, as `rtj.train` leaves them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from rtj.config import flatten, set_field
from rtj.config_args import get_config

PER_EPOCH = 10.0
START = {
    "time": "2026-01-02T03:04:05+00:00",
    "versions": {"rtj": "0.1.0", "jax": "0.10.2", "python": "3.11.7"},
    "git_commit": "abc1234",
    "platform": "gpu",
    "device_kind": "NVIDIA H100",
    "device_count": 2,
    "process_count": 1,
    "steps_per_epoch": PER_EPOCH,
    "total_steps": 40,
}


def write_run(
    folder: Path,
    argument: str,
    *,
    data: str = "digits",
    seed: int = 0,
    top1: float = 0.9,
    top5: float = 0.99,
    scores: dict[str, float] | None = None,
    finished: bool = True,
    changes: dict[str, Any] | None = None,
    predictions: dict[str, Any] | None = None,
) -> Path:
    """A run of `configs/ablation.py:ARGUMENT`, or of `FILE:ARGUMENT`.

    It has 4 epochs of 10 steps, 2 of them if not finished. `scores` are those of a task
    other than classification; `changes` are config fields, `predictions` the arrays by
    name.
    """
    scores = scores or {"top1": top1, "top5": top5}
    if argument.startswith("distill"):
        argument += f",teacher=runs/teacher-{seed}"
    if ":" in argument:
        config = get_config(f"{argument},seed={seed}")
    else:
        config = get_config(f"ablation:{argument},data={data},seed={seed}")
    for field, value in (changes or {}).items():
        if "." in field:
            set_field(config, field, value)
        else:
            config[field] = value
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(flatten(config)))
    (folder / "starts.jsonl").write_text(json.dumps(START) + "\n")
    steps = range(5, 41 if finished else 21, 5)
    lines = [_train(step, seed) for step in steps]
    lines += [_evaluation(step, scores) for step in steps if step % 10 == 0]
    lines.sort(key=lambda row: row["step"])
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    if finished:
        result: dict[str, Any] = {"step": 40, "epoch": 4.0} | scores
        result |= {"loss": 0.3, "examples": 1000, "images_per_s": 10.0}
        result["workdir"] = str(folder)
        (folder / "result.json").write_text(json.dumps(result))
    if predictions is not None:
        arrays = {k: np.asarray(v, np.int32) for k, v in predictions.items()}
        np.savez(folder / "predictions.npz", **arrays)  # type: ignore[arg-type]
    return folder


def _train(step: int, seed: int) -> dict[str, Any]:
    loss = 2.3 / (1 + step / 4) + 0.05 * ((7 * step + seed) % 3)
    lr = 0.1 * min(step, 10) / 10 * (1 - step / 50)
    return {"step": step, "kind": "train", "loss": loss, "lr": lr, "top1": 0.5}


def _evaluation(step: int, scores: dict[str, float]) -> dict[str, Any]:
    grown = {key: value * (1 - 0.5 ** (step / 5)) for key, value in scores.items()}
    row = {"step": step, "kind": "eval"} | grown
    return row | {"loss": 0.3, "examples": 1000}
