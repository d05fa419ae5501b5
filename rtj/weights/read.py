"""Opens weights by what they are, not by what they are called."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rtj.errors import CheckpointError
from rtj.weights import hub
from rtj.weights.npz import read_npz
from rtj.weights.pth import read_torch_legacy, read_torch_zip
from rtj.weights.run_folder import is_run_folder, read_run_folder
from rtj.weights.safetensors_file import read_safetensors
from rtj.weights.weight_file import MAX_BYTES, WeightFile, unreadable
from rtj.weights.zip_archive import open_zip

_ALLOWED = (
    "safetensors, torch.save's .pth/.pt/.bin, .npz, the workdir or checkpoints of "
    "an rtj run, a folder with model.safetensors or pytorch_model.bin, timm:NAME, "
    "torchvision:NAME"
)
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def read_weights(path: str | Path, *, max_bytes: int = MAX_BYTES) -> WeightFile:
    """All tensors of `path`, as they are.

    Args:
        path: a file, a folder, or `timm:NAME` or `torchvision:NAME`. The first
            bytes decide the format.
        max_bytes: what the tensors may take, unpacked.

    Raises:
        CheckpointError: not there, damaged, hostile, or of no known format.
        ConfigError: a package of the extra `weights` is missing.
    """
    if hub.is_hub_name(str(path)):
        return read_weights(hub.fetch(str(path)), max_bytes=max_bytes)
    path = Path(path)
    try:
        if path.is_dir():
            return _read_folder(path, max_bytes)
        if not path.is_file():
            raise unreadable(path, "there is no such file or folder")
        file = _reader(path)(path, max_bytes)
    except OSError as error:
        raise unreadable(path, error) from error
    if path.name in _HUB_FILES and not file.metadata.get("architecture"):
        return WeightFile(
            file.tensors, file.source, file.layout, _hub_config(path.parent)
        )
    return file


def _read_folder(path: Path, max_bytes: int) -> WeightFile:
    if is_run_folder(path):
        return read_run_folder(path)
    for name in _HUB_FILES:
        if (path / name).is_file():
            return read_weights(path / name, max_bytes=max_bytes)
    raise unreadable(path, f"nothing in this folder is known; allowed: {_ALLOWED}")


def _reader(path: Path) -> Callable[[Path, int], WeightFile]:
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_reader(path)
    if start.startswith(b"\x80") and start[1:2] <= b"\x05":
        return read_torch_legacy
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        return read_safetensors
    if path.suffix in (".npz", ".pth", ".pt", ".bin"):
        raise unreadable(path, f"it is no {path.suffix} file, or its start is damaged")
    raise unreadable(path, f"its format is not known; allowed: {_ALLOWED}")


def _zip_reader(path: Path) -> Callable[[Path, int], WeightFile]:
    # The reader checks the sizes; here only names are looked at.
    with open_zip(path, max_bytes=2**63) as archive:
        names = archive.names
    if names and all(name.endswith(".npy") for name in names):
        return read_npz
    if any(name.endswith("/data.pkl") for name in names):
        return read_torch_zip
    raise unreadable(path, "a zip file, but neither .npz nor one of torch.save")


def _hub_config(folder: Path) -> Mapping[str, Any]:
    """timm's config.json beside a hub file, flattened; {} if there is none."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text())
        return config.get("pretrained_cfg", {}) | {
            key: value for key, value in config.items() if key != "pretrained_cfg"
        }
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {error}") from error
