"""A train step and inference on one device, beside PyTorch's and the Flax example's.

Every turn of a contestant is a process of its own, and they take turns (A B C A B C and
so on), so that a machine that slows down slows all of them; a program compiled in one
turn is found in the next. Each works on one batch that stays on the device.
"""

import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtj.bench.child import ask, lend_rtj
from rtj.bench.step_contestants import PEERS, Contest, contestants, turn
from rtj.errors import RtjError

# Of one mode and of all: what contestants replied in each turn.
Ran = Mapping[str, Sequence[Mapping[str, Any]]]
Replies = Mapping[str, Ran]
# Forward, and the gradients by activations and by weights.
_PASSES = {"train": 3, "inference": 1}


def measure(contest: Contest) -> dict[str, Any]:
    """Runs everything; see `summary` for what comes out.

    Raises:
        RtjError: not even the device's own peaks can be measured.
    """
    peaks: list[dict[str, Any]] = []
    replies: dict[str, dict[str, list[dict[str, Any]]]] = {}
    entrants = contestants(contest)
    not_run = {c.name: why for c in entrants if (why := c.why_not())}
    with tempfile.TemporaryDirectory(prefix="rtj-bench-") as name:
        folder = Path(name)
        for _ in range(contest.turns):
            environment = _environment(sys.executable, folder)
            peaks.append(_peaks(contest.precision, environment))
            for entrant in entrants:
                seen = replies.setdefault(
                    entrant.name, {mode: [] for mode in contest.modes}
                )
                if entrant.name in not_run or _all_failed(seen):
                    continue
                environment = _environment(entrant.python, folder)
                reply = turn(entrant, contest, peaks[0]["platform"], environment)
                for mode in contest.modes:
                    seen[mode].append(reply[mode])
    return summary(contest, peaks, replies, not_run)


def _environment(python: str, folder: Path) -> dict[str, str]:
    caches = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch"),
    }
    return caches | lend_rtj(python, folder)


def _peaks(precision: str, environment: Mapping[str, str]) -> dict[str, Any]:
    order = {"precision": precision}
    found = ask("rtj.bench.peaks", order, environment=environment)
    if "error" in found:
        raise RtjError(f"the device cannot be measured: {found['error']}")
    return found


def _all_failed(seen: Ran) -> bool:
    return all(turns and "error" in turns[-1] for turns in seen.values())


def summary(
    contest: Contest,
    peaks: Sequence[Mapping[str, Any]],
    replies: Replies,
    not_run: Mapping[str, str],
) -> dict[str, Any]:
    """What the turns came to.

    Args:
        peaks: of each turn.
        replies: of each contestant, mode and turn, from `rtj.bench.step_contest`.
        not_run: contestants that were not asked, and why.

    Returns:
        The fields of the contest that say what was measured; `device` (`platform`,
        `name`, `jax`, `threads`); `matmul_tflops` and `bandwidth_gb_per_s`, the best of
        all turns; `macs`, multiply-adds of an image in the forward pass (None if rtj
        did not run); `contestants`, facts of each that ran; `not_run`, reasons by name
        or by 'name, mode'; and under the name of each mode:

        - `images_per_s`: medians over the turns, by contestant; `turns`: each of them;
        - on a CPU `images_per_cpu_s`, medians too, by the seconds of all threads: the
          steadier measure where other programs run, best on one core (`taskset`), since
          PyTorch's threads spin while they wait for each other;
        - `matmul_fraction`: of `matmul_tflops`. An image counts 2 x MACs floating-point
          operations in inference and three times that in training, whatever a compiler
          made of the program;
        - `bytes_accessed` of a step, as XLA's cost analysis has it, and
          `bandwidth_fraction`, that in a second by `bandwidth_gb_per_s`; of JAX's
          contestants alone;
        - `ratio_torch`, `ratio_flax`: rtj's images/s over theirs; None unless both ran.
    """
    facts, errors = _facts_and_errors(replies)
    tflops = max(peak["matmul_tflops"] for peak in peaks)
    bandwidth = max(peak["bandwidth_gb_per_s"] for peak in peaks)
    macs = facts.get("rtj", {}).get("macs")
    result: dict[str, Any] = {
        "network": contest.network,
        "batch": contest.batch,
        "size": contest.size,
        "precision": contest.precision,
        "seconds": contest.seconds,
        "device": {
            key: peaks[0][key] for key in ("platform", "name", "jax", "threads")
        },
        "matmul_tflops": tflops,
        "bandwidth_gb_per_s": bandwidth,
        "macs": macs,
        "contestants": facts,
        "not_run": dict(not_run) | errors,
    }
    for mode in contest.modes:
        good = {
            name: [reply for reply in seen[mode] if "error" not in reply]
            for name, seen in replies.items()
        }
        ran = {name: turns for name, turns in good.items() if turns}
        operations = None if macs is None else 2 * _PASSES[mode] * macs
        result[mode] = _mode(ran, contest.batch, operations, tflops, bandwidth)
        if peaks[0]["platform"] == "cpu":
            result[mode]["images_per_cpu_s"] = _medians(ran, "images_per_cpu_s")
    return result


def _medians(ran: Ran, key: str) -> dict[str, float]:
    return {
        name: statistics.median(reply[key] for reply in seen)
        for name, seen in ran.items()
    }


def _mode(
    ran: Ran,
    batch: int,
    operations: int | None,
    tflops: float,
    bandwidth: float,
) -> dict[str, Any]:
    turns = {name: [r["images_per_s"] for r in seen] for name, seen in ran.items()}
    rates = _medians(ran, "images_per_s")
    moved = {name: seen[0]["bytes_accessed"] for name, seen in ran.items()}
    moved = {name: count for name, count in moved.items() if count}
    found: dict[str, Any] = {
        "images_per_s": rates,
        "turns": turns,
        "matmul_fraction": {
            name: rate * operations / (tflops * 1e12)
            for name, rate in rates.items()
            if operations
        },
        "bytes_accessed": moved,
        "bandwidth_fraction": {
            name: rates[name] / batch * count / (bandwidth * 1e9)
            for name, count in moved.items()
        },
    }
    for peer in PEERS:
        both = "rtj" in rates and peer in rates
        found[f"ratio_{peer}"] = rates["rtj"] / rates[peer] if both else None
    return found


def _facts_and_errors(
    replies: Replies,
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    facts: dict[str, dict[str, Any]] = {}
    errors: dict[str, str] = {}
    for name, seen in replies.items():
        failed = {}
        for mode, turns in seen.items():
            for reply in turns:
                if "error" in reply:
                    failed[mode] = reply["error"]
                else:
                    facts[name] = reply["facts"]
        reasons = set(failed.values())
        if len(failed) == len(seen) and len(reasons) == 1:
            errors[name] = reasons.pop()
        else:
            errors |= {f"{name}, {mode}": why for mode, why in failed.items()}
    return facts, errors


def describe(result: dict[str, Any]) -> str:
    """The result as text for people."""
    device, size = result["device"], result["size"]
    lines = [
        f"{device['name']} ({device['platform']}), {device['threads']} threads, "
        f"JAX {device['jax']}",
        f"  at most {result['matmul_tflops']:.3g} TFLOP/s in matrix products, "
        f"{result['bandwidth_gb_per_s']:.3g} GB/s in memory",
        f"{result['network']}, {result['precision']}, batches of {result['batch']}, "
        f"{size}x{size}",
    ]
    for name, facts in result["contestants"].items():
        shown = ", ".join(f"{key} {value}" for key, value in facts.items())
        lines.append(f"  {name:<6} {shown}")
    for mode in _PASSES:
        if mode in result:
            lines += _table(mode, result[mode])
    lines += [f"not run: {name}: {why}" for name, why in result["not_run"].items()]
    return "\n".join(lines)


def _table(mode: str, found: dict[str, Any]) -> list[str]:
    cpu = found.get("images_per_cpu_s", {})
    head = ["images/s", "lowest", "highest", "of products", "of memory", "rtj is"]
    head += ["per CPU s"] if cpu else []
    lines = [f"{mode:<10}" + "".join(f"{word:>12}" for word in head)]
    for name, rate in found["images_per_s"].items():
        turns = found["turns"][name]
        cells = [f"{value:.4g}" for value in (rate, min(turns), max(turns))]
        cells += [
            _percent(found[key].get(name))
            for key in ("matmul_fraction", "bandwidth_fraction")
        ]
        ratio = found.get(f"ratio_{name}")
        cells.append("" if ratio is None else f"{ratio:.2f}x")
        cells += [f"{cpu[name]:.4g}"] if cpu else []
        lines.append(f"  {name:<8}" + "".join(f"{cell:>12}" for cell in cells))
    return [line.rstrip() for line in lines]


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f} %"
