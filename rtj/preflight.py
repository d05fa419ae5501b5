"""Checks of a run of several processes, before its first compile.

Hosts that differ in code, config or data train on without a word and give a wrong
result, or wait for each other for ever. Each check gathers a few facts at process 0,
compares them with its own and gives all processes the same error, which names the
process that differs, what it has and what process 0 has. One process alone checks
nothing.
"""

import hashlib
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rtj.config import deciding_fields
from rtj.data.bad_images import as_data_error
from rtj.data.images import UndecodableImage
from rtj.errors import ConfigError, DataError, RtjError
from rtj.experiment import Experiment
from rtj.peers import Fact, Peers, as_error
from rtj.task import Data
from rtj.workdir import git_commit, versions

_EXAMPLES = 256  # of each split, in the fingerprint of the data
_LOOK_S = 15.0  # a network file system may show a new file only after seconds
_SHOWN = 4  # differences in one message


def check_launch(
    peers: Peers, config: ConfigDict, workdir: Path, *, finished: bool
) -> None:
    """All processes run the same config with the same code on as many devices.

    Also all see the same of `workdir`: a finished run (`finished`) or none.

    Raises:
        ConfigError: see above.
    """
    if peers.count == 1:
        return
    fields = {f"config {name}": v for name, v in deciding_fields(config).items()}
    facts = {
        "rtj's files": f"{code_hash()} (commit {git_commit()})",
        "versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
        "local devices": _local_devices(),
        "config mesh.devices": config.mesh.devices,
        "config mesh.shard_optimizer": config.mesh.shard_optimizer,
        f"finished run in workdir={str(workdir)!r}:": "yes" if finished else "no",
    }
    _same(peers, "program", facts | fields, ConfigError)


def check_data(peers: Peers, experiment: Experiment) -> None:
    """All processes read the same examples and learn from the same teacher.

    Raises:
        DataError: see above.
    """
    if peers.count == 1:
        return
    facts: Fact = {}
    for split, source in (
        ("train", experiment.train_source),
        ("held-out", experiment.eval_source),
    ):
        facts[f"{split} images"] = len(source)
        facts[f"{split} fingerprint"] = data_fingerprint(source)
    if experiment.teacher is not None:
        facts["weights of the teacher"] = experiment.teacher.fingerprint
    if experiment.initial is not None:
        facts["weights to start from"] = experiment.initial.fingerprint
    _same(peers, f"data {experiment.train_source.name}", facts, DataError)


def check_workdir_is_shared(peers: Peers, workdir: Path) -> None:
    """All processes see a file that process 0 writes into `workdir`.

    Raises:
        ConfigError: see above.
    """
    if peers.count == 1:
        return
    token = uuid.uuid4().hex
    try:
        if peers.lead:
            (workdir / f".probe-{token}").touch()
        probe = workdir / f".probe-{peers.from_lead('probe', token)}"
        seen = _appears(probe, min(_LOOK_S, peers.wait_s / 2))
        problem = peers.judge(
            "workdir", {"seen": seen}, lambda facts: _not_seen(facts, workdir)
        )
    finally:
        if peers.lead:
            (workdir / f".probe-{token}").unlink(missing_ok=True)
    if problem:
        raise as_error(problem)


def check_start(peers: Peers, step: int | None) -> None:
    """All processes go on from the same checkpoint (None: from the beginning).

    Raises:
        ConfigError: see above.
    """
    _same(peers, "start", {"newest checkpoint": step}, ConfigError)


def check_compiled(
    peers: Peers, step: jax.stages.Wrapped, *args: Any, name: str = "train step"
) -> None:
    """All processes are about to compile the same program for `step(*args)`.

    Compares hashes of the lowered StableHLO, which needs no compile; programs that
    differ would hang in their first collective.

    Raises:
        ConfigError: see above.
    """
    if peers.count == 1:
        return
    facts = {f"StableHLO of the {name}": stablehlo_hash(step.lower(*args))[:12]}
    _same(peers, name, facts, ConfigError)


def _same(
    peers: Peers, name: str, facts: Mapping[str, Any], error: type[RtjError]
) -> None:
    problem = peers.judge(name, facts, differences)
    if problem:
        raise as_error(problem, error)


def differences(facts: Sequence[Fact]) -> str:
    """Names each process whose facts are not those of the first; "" if none."""
    first, found = facts[0], []
    for index, fact in enumerate(facts):
        for label in (key for key in fact if key != "host"):
            if fact[label] != first.get(label):
                found.append(
                    f"process {index} ({fact['host']}) has {label} {fact[label]}; "
                    f"process 0 ({first['host']}) has {first.get(label)}"
                )
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def _not_seen(facts: Sequence[Fact], workdir: Path) -> str:
    blind = [
        f"{i} ({fact['host']})" for i, fact in enumerate(facts) if not fact["seen"]
    ]
    if not blind:
        return ""
    return (
        f"workdir={str(workdir)!r} is not one folder for all processes: what process 0 "
        f"({facts[0]['host']}) writes there is not seen by process {', '.join(blind)}; "
        "allowed: a folder on a file system that all share"
    )


def _appears(path: Path, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _local_devices() -> str:
    found = jax.local_devices()
    return f"{len(found)} x {found[0].device_kind}"


def code_hash() -> str:
    """A hash of rtj's own Python files: the same code, in git or not."""
    root, whole = Path(__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        whole.update(path.relative_to(root).as_posix().encode() + b"\0")
        whole.update(path.read_bytes() + b"\0")
    return whole.hexdigest()[:12]


def data_fingerprint(source: Data) -> str:
    """A hash of all that up to 256 examples spread over `source` hold."""
    whole = hashlib.sha256()
    count = min(_EXAMPLES, len(source))
    for index in np.linspace(0, len(source) - 1, count).round().astype(int).tolist():
        try:
            with as_data_error(source.name, index):
                example = source[index]
        except UndecodableImage:  # the pipelines count these
            whole.update(f"{index} cannot be used\0".encode())
            continue
        for key, value in sorted(example.items()):
            whole.update(f"{key}\0".encode())
            if isinstance(value, bytes | np.ndarray):
                whole.update(value if isinstance(value, bytes) else value.tobytes())
            else:
                whole.update(f"{value}\0".encode())
    return whole.hexdigest()[:12]


def stablehlo_hash(lowered: jax.stages.Lowered) -> str:
    """The same in every process that lowers the same program."""
    return hashlib.sha256(lowered.as_text().encode()).hexdigest()
