"""Input against its peers: JPEG files to batches, on the same cores, crops and files.

Two contests: decoding, cropping and resizing to uint8 alone; and all that a training
image of the paper needs (that, and flip, colour jitter, PCA noise, normalisation),
counting the host's time only. Every contestant runs in its own process, one after the
other. A peer that is not installed is left out, and named.

Each contest is scored among plain interpolation and among antialiased resizing; the
ratios in the JSON are those of plain interpolation, the faster one for everybody.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from rtj.bench import loop_wait, memory
from rtj.bench.breakdown import breakdown
from rtj.bench.child import is_installed
from rtj.bench.contestants import ABSENT, CONTESTANTS, Contestant, rate
from rtj.bench.crops import Work
from rtj.bench.photos import make_folder
from rtj.data.prefetch import choose_workers

_RESTART_BLOCKS = 4


def measure(
    seconds: float, images: int, memory_images: int, loop_steps: int
) -> dict[str, Any]:
    """Runs everything; see `describe` for what comes out."""
    cores = choose_workers(0)
    with tempfile.TemporaryDirectory(prefix="rtj-bench-") as name:
        plain = _work(Path(name) / "plain", images, 0, cores, seconds)
        marked = _work(Path(name) / "marked", images, _RESTART_BLOCKS, cores, seconds)
        size = sum(map(os.path.getsize, plain.files)) / len(plain.files)
        rates = _race(plain)
        for antialias in (False, True):
            ours = next(c for c in CONTESTANTS if c.antialias == antialias)
            label = f"rtj, restart markers, {_filter(antialias)}"
            rates[label] = rate(ours, marked) | {
                "antialias": antialias, "full": False, "needs": ours.needs,
            }  # fmt: skip
        parts = {
            _filter(antialias): breakdown(plain, antialias)
            for antialias in (False, True)
        }
        watched = memory.watch(plain, memory_images)
        waits = loop_wait.measure(plain.folder, Path(name) / "runs", loop_steps)
    return {
        "cores": cores,
        "bytes_per_image": round(size),
        "images_per_s": {k: v.get("images_per_s") for k, v in rates.items()},
        "not_run": _not_run(rates),
        "ratio_decode": _ratio(rates, antialias=False, full=False),
        "ratio_full": _ratio(rates, antialias=False, full=True),
        "ratio_decode_antialiased": _ratio(rates, antialias=True, full=False),
        "ratio_full_antialiased": _ratio(rates, antialias=True, full=True),
        "microseconds": parts,
        "memory": watched,
        "loop": waits,
    }


def _work(folder: Path, images: int, blocks: int, cores: int, seconds: float) -> Work:
    make_folder(folder, images, blocks)
    files = sorted(str(path) for path in (folder / "train").glob("*/*.jpg"))
    return Work(folder, tuple(files), cores, seconds)


def _filter(antialias: bool) -> str:
    return "antialiased" if antialias else "plain"


def _label(contestant: Contestant) -> str:
    full = ", augmented" if contestant.full else ""
    return f"{contestant.name}, {_filter(contestant.antialias)}{full}"


def _race(work: Work) -> dict[str, dict[str, Any]]:
    found = {}
    for contestant in CONTESTANTS:
        if is_installed(contestant.needs):
            result = rate(contestant, work)
        else:
            result = {"error": f"{contestant.needs} is not installed"}
        found[_label(contestant)] = result | {
            "antialias": contestant.antialias, "full": contestant.full,
            "needs": contestant.needs,
        }  # fmt: skip
    return found


def _not_run(rates: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {k: v["error"] for k, v in rates.items() if "error" in v} | ABSENT


def _ratio(
    rates: dict[str, dict[str, Any]], antialias: bool, full: bool
) -> float | None:
    """rtj's rate over the best peer's; None if rtj or every peer could not run.

    rtj's full rate is its rate without: the rest is in the compiled step.
    """
    ours = rates[f"rtj, {_filter(antialias)}"].get("images_per_s")
    peers = [
        value["images_per_s"]
        for name, value in rates.items()
        if not name.startswith("rtj")
        and value["antialias"] == antialias
        and value["full"] == full
        and "images_per_s" in value
    ]
    return ours / max(peers) if ours and peers else None


def describe(result: dict[str, Any]) -> str:
    """The result as text for people."""
    cores = result["cores"]
    lines = [
        f"JPEGs of 500x375, {result['bytes_per_image'] / 1e3:.0f} kB, to 224x224, on "
        f"{cores} cores; images/s, all cores and one core's share",
        *(
            f"  {name:<44} {value:>8.0f} {value / cores:>8.0f}"
            for name, value in result["images_per_s"].items()
            if value
        ),
        *(f"  {name:<44} not run: {why}" for name, why in result["not_run"].items()),
        "rtj over the best peer, plain and antialiased:",
        f"  decode, crop, resize   {_times(result['ratio_decode'])} "
        f"{_times(result['ratio_decode_antialiased'])}",
        f"  whole training image   {_times(result['ratio_full'])} "
        f"{_times(result['ratio_full_antialiased'])}",
        "microseconds an image on one thread:",
    ]
    for name, parts in result["microseconds"].items():
        shown = ", ".join(f"{part} {value:.0f}" for part, value in parts.items())
        lines.append(f"  {name:<12} {shown}")
    watched = result["memory"]
    lines.append(
        f"memory over {watched['images']:,} images: {watched['rss_mb'][0]} to "
        f"{watched['rss_mb'][-1]} MB, images open at once and at the end "
        f"{watched['open_files']}"
    )
    for name, wait in result["loop"].items():
        lines.append(
            f"training loop on {name}: a step takes {1e3 * wait['step_s']:.1f} ms, of "
            f"which {100 * wait['share']:.2f} % wait for input"
        )
    return "\n".join(lines)


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
