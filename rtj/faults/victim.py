"""One start of the training that is killed."""

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtj.checkpoint.step_folders import list_steps, newest_step, unfinished_saves
from rtj.errors import CheckpointError
from rtj.faults.plan import Fault
from rtj.metrics import METRICS_FILE

_POLL_S = 0.002
_PATIENCE_S = 600.0


@dataclass(frozen=True)
class Outcome:
    """What a fault did.

    Attributes:
        code: of the process, negative for a signal; 3 after SIGTERM, once it trains.
        in_save: whether a save was under way when the signal was sent.
        left: whether half a checkpoint stayed behind.
        newest: step of the newest checkpoint afterwards, or None.
    """

    code: int
    in_save: bool
    left: bool
    newest: int | None


def run_to_the_end(flags: Sequence[str], log: Path) -> None:
    """Trains until it is finished.

    Raises:
        CheckpointError: it ended in another way; what it wrote is in `log`.
    """
    code = _start(flags, log).wait()
    if code != 0:
        raise CheckpointError(f"the training ended with exit code {code}; see {log}")


def strike(flags: Sequence[str], workdir: Path, fault: Fault, log: Path) -> Outcome:
    """Starts the training, sends the signal at its time, waits for the end."""
    checkpoints = workdir / "checkpoints"
    earlier = _saves(checkpoints)
    child = _start(flags, log)
    end = time.monotonic() + _PATIENCE_S
    due = _due(fault, workdir)
    while child.poll() is None and not due():
        if time.monotonic() > end:
            child.kill()
            raise CheckpointError(f"no progress for {_PATIENCE_S:g} s; see {log}")
        time.sleep(_POLL_S)
    in_save = bool(_saves(checkpoints) - earlier)
    if child.poll() is None:
        child.send_signal(getattr(signal, fault.signal))
    code = child.wait()
    left = bool(unfinished_saves(checkpoints))
    return Outcome(code, in_save, left, newest_step(checkpoints))


def flip_a_bit(checkpoints: Path, rng: random.Random) -> str | None:
    """Damages the newest checkpoint if there is an older one; the file, or None."""
    steps = list_steps(checkpoints)
    if len(steps) < 2:
        return None
    files = sorted(p for p in (checkpoints / str(steps[-1])).rglob("*") if p.is_file())
    path = rng.choice([file for file in files if file.stat().st_size])
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return path.relative_to(checkpoints).as_posix()


def _saves(checkpoints: Path) -> set[int]:
    """The unfinished ones, each by a number that no other folder has meanwhile."""
    found = set()
    for folder in unfinished_saves(checkpoints):
        with contextlib.suppress(FileNotFoundError):  # finished just now
            found.add(folder.stat().st_ino)
    return found


def _start(flags: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        command = [sys.executable, "-m", "rtj.main", *flags]
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def _due(fault: Fault, workdir: Path) -> Callable[[], bool]:
    """Says, asked again and again, whether it is time."""
    begun = time.monotonic()
    if fault.when == "start":
        return lambda: time.monotonic() - begun >= fault.after
    metrics = workdir / METRICS_FILE
    first: list[int] = []

    def steps_done() -> int:
        # A start first shortens the file to its checkpoint, then it grows.
        lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        first[:] = [min([lines, *first])]
        return lines - first[0]

    if fault.when == "step":
        return lambda: steps_done() > fault.after
    checkpoints = workdir / "checkpoints"
    return lambda: steps_done() > fault.after and bool(unfinished_saves(checkpoints))
