"""Who takes part in `rtj.bench step`, and what each is asked to do."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rtj.bench.child import ask, is_installed
from rtj.bench.peer_flax import STAGE_SIZES
from rtj.weights.architectures import architecture

PEERS = ("torch", "flax")
MODES = ("train", "inference")


@dataclass(frozen=True)
class Contest:
    """What to measure.

    Attributes:
        network: of `rtj.list_models()`.
        batch: images a step.
        size: pixels a side.
        precision: `fp32`, `bf16` or `fp16`.
        modes: of `MODES`.
        peers: of `PEERS`.
        seconds: of each mode in each turn.
        turns: how often each contestant is asked.
        torch_python: the Python that has PyTorch and timm.
        torch_compile: `on`, `off`, or `auto`: on, except on a CPU.
    """

    network: str = "resnet50b"
    batch: int = 256
    size: int = 224
    precision: str = "bf16"
    modes: tuple[str, ...] = MODES
    peers: tuple[str, ...] = PEERS
    seconds: float = 10.0
    turns: int = 3
    torch_python: str = sys.executable
    torch_compile: str = "auto"


@dataclass(frozen=True)
class Contestant:
    """One who trains and infers.

    Attributes:
        name: for the table.
        needs: the packages that must be installed.
        entry: 'module:function' of `Work -> Running`.
        network: the contest's, as the contestant calls it.
        python: to run in.
    """

    name: str
    needs: tuple[str, ...]
    entry: str
    network: str
    python: str = sys.executable

    def why_not(self) -> str | None:
        """Why it cannot take part, None if it can."""
        for package in self.needs:
            if not is_installed(package, self.python):
                return f"{package} is not installed for {self.python}"
        if self.name == "flax" and self.network not in STAGE_SIZES:
            known = ", ".join(STAGE_SIZES)
            return f"flax's example is a ResNet-B ({known}), not {self.network}"
        return None


def contestants(contest: Contest) -> list[Contestant]:
    """rtj and the peers that were asked for."""
    network = contest.network
    entrants = {
        "rtj": Contestant("rtj", (), "rtj.bench.our_step:make", network),
        "torch": Contestant(
            "torch",
            ("torch", "timm"),
            "rtj.bench.peer_torch:make",
            architecture(network),
            contest.torch_python,
        ),
        "flax": Contestant("flax", (), "rtj.bench.peer_flax:make", network),
    }
    return [entrants[name] for name in ("rtj", *contest.peers)]


def turn(
    contestant: Contestant,
    contest: Contest,
    platform: str,
    environment: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """What each mode came to, in a new process; see `rtj.bench.step_contest`."""
    fields = asdict(contest)
    order = {name: fields[name] for name in ("batch", "size", "precision", "modes")} | {
        "entry": contestant.entry,
        "network": contestant.network,
        "seconds": contest.seconds,
        "platform": platform,
        "torch_compile": contest.torch_compile == "on"
        or (contest.torch_compile == "auto" and platform != "cpu"),
    }
    reply = ask(
        "rtj.bench.step_contest",
        order,
        python=contestant.python,
        environment=environment,
    )
    return dict.fromkeys(contest.modes, reply) if "error" in reply else reply
