"""Who takes part in `rtj.bench input`, and what each is asked to do."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtj.bench.child import ask
from rtj.bench.crops import Work


@dataclass(frozen=True)
class Contestant:
    """One way to make training images.

    Attributes:
        name: for the table.
        needs: the package that must be installed.
        entry: 'module:function' of `(Work, **options) -> iterator of batches`.
        options: of the entry.
        antialias: whether its resize is antialiased.
        full: whether flip, colour jitter, PCA noise and normalisation are done too.
    """

    name: str
    needs: str
    entry: str
    options: dict[str, Any]
    antialias: bool
    full: bool = False


def _variants(name: str, needs: str, entry: str, full: bool) -> list[Contestant]:
    parts = [(antialias, False) for antialias in (False, True)]
    parts += [(antialias, True) for antialias in (False, True)] if full else []
    return [
        Contestant(
            name=name,
            needs=needs,
            entry=f"rtj.bench.{entry}",
            options={"antialias": antialias, "full": whole} if full else
            {"antialias": antialias},
            antialias=antialias,
            full=whole,
        )
        for antialias, whole in parts
    ]  # fmt: skip


CONTESTANTS = [
    *_variants("rtj", "simplejpeg", "ours:batches", full=False),
    Contestant("rtj, Pillow only", "PIL", "rtj.bench.ours:batches",
               {"antialias": True, "decoder": "pillow"}, antialias=True),
    *_variants("tf.data", "tensorflow", "peer_tf:batches", full=True),
    *_variants("DALI, CPU", "nvidia.dali", "peer_dali:batches", full=True),
    Contestant("torchvision", "torchvision", "rtj.bench.peer_torchvision:batches",
               {"full": False}, antialias=True),
    Contestant("torchvision", "torchvision", "rtj.bench.peer_torchvision:batches",
               {"full": True}, antialias=True, full=True),
]  # fmt: skip
# Peers that are looked for and not run: why.
ABSENT = {"ffcv": "its package needs a compiler and OpenCV's and TurboJPEG's headers"}


def rate(contestant: Contestant, work: Work) -> dict[str, Any]:
    """Runs a contestant in a process of its own: images_per_s, or why not."""
    order = asdict(contestant) | {"folder": str(work.folder), "files": work.files}
    order |= {"cores": work.cores, "seconds": work.seconds}
    return ask("rtj.bench.contest", order)


def work_from(order: dict[str, Any]) -> Work:
    """The `Work` of an order made by `rate`."""
    return Work(
        Path(order["folder"]), tuple(order["files"]), order["cores"], order["seconds"]
    )
