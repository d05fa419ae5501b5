"""PyTorch's train step on timm's network, the fast way that their users know.

Images lie channels-last, 16 bits are autocast's (float16 with a gradient scaler), the
update is one fused kernel, and on a GPU the network goes through `torch.compile`.
float32 is not rounded to tf32.

Imported by a Python that may have neither JAX nor what else rtj needs.
"""

from collections.abc import Callable
from typing import Any

import timm
import torch

from rtj.bench.step_work import CLASSES, Running, Work

_DEVICES = {"cpu": "cpu", "gpu": "cuda"}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Small, so that learning one batch for minutes diverges in no precision.
_RATE = 1e-3


def make(work: Work) -> Running:
    """An entry of `rtj.bench.step_contest`."""
    device = _device(work.platform)
    _set_up()
    if not timm.is_model(work.network):
        raise ValueError(f"timm {timm.__version__} has no {work.network}")
    model = timm.create_model(work.network, num_classes=CLASSES)
    model = model.to(device, memory_format=torch.channels_last)
    images = torch.randn(work.batch, 3, work.size, work.size, device=device)
    images = images.to(memory_format=torch.channels_last)
    forward = torch.compile(model) if work.torch_compile else model
    cast = torch.autocast(
        device, dtype=_DTYPES[work.precision], enabled=work.precision != "fp32"
    )
    make_step = _train if work.mode == "train" else _inference
    step, result = make_step(model, forward, images, cast, work.precision == "fp16")

    def finish() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return float(result())

    facts = {
        "network": work.network,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "threads": torch.get_num_threads(),
        "compiled": work.torch_compile,
    }
    if device == "cuda":
        facts["device"] = torch.cuda.get_device_name()
    return Running(step, finish, facts)


def _device(platform: str) -> str:
    if platform not in _DEVICES:
        raise RuntimeError(f"JAX runs on {platform} here, which PyTorch does not")
    if platform == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("JAX runs on a GPU here, and this PyTorch sees none")
    return _DEVICES[platform]


def _set_up() -> None:
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")


def _train(
    model: Any, forward: Any, images: Any, cast: Any, scales: bool
) -> tuple[Callable[[], None], Callable[[], Any]]:
    labels = torch.randint(CLASSES, (len(images),), device=images.device)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=_RATE,
        momentum=0.9,
        weight_decay=1e-4,
        nesterov=True,
        fused=True,
    )
    scaler = torch.amp.GradScaler(images.device.type, enabled=scales)
    model.train()
    loss = torch.zeros(())

    def step() -> None:
        nonlocal loss
        optimizer.zero_grad()
        with cast:
            loss = criterion(forward(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step, lambda: loss.detach()


def _inference(
    model: Any, forward: Any, images: Any, cast: Any, scales: bool
) -> tuple[Callable[[], None], Callable[[], Any]]:
    model.eval()
    classes = torch.zeros(())

    def step() -> None:
        nonlocal classes
        with torch.inference_mode(), cast:
            classes = forward(images).argmax(-1)

    return step, lambda: classes.float().mean()
