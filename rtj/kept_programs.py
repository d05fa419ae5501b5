"""Whole programs of an earlier start, used at once and checked while they run.

JAX's own cache spares a start its compilations. What is left is Python that traces and
lowers, only to find out which program that is: 1.4 of 3.7 s of the digits' start. Here
that is looked up by what the program is made from (`program_facts`): rtj's files, the
versions, the whole config, the data's sizes, the devices, compiler flags and shapes.
Should that miss something, a run would use another program than its code says, so the
code is traced and lowered all the same, in a thread while the first steps run, and
compared. Nothing is evaluated or saved before that has ended.

Only for a run of one process: those of several compare theirs before they compile.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rtj.errors import StaleProgram
from rtj.experiment import Experiment
from rtj.preflight import stablehlo_hash
from rtj.program_facts import environment_facts, program_facts
from rtj.program_files import (
    BadProgramFile,
    compile_lowered,
    read_note,
    read_program,
    write_note,
    write_program,
)

_log = logging.getLogger(__name__)
# In a note: what came of these facts was once not what the note said.
_NOT_TO_BE_TRUSTED = "-"


class _Claim(NamedTuple):
    """A program in use that is still to be compared with the code."""

    name: str
    note: Path
    jitted: jax.stages.Wrapped
    shapes: tuple[Any, ...]
    lowered_hash: str


class KeptPrograms:
    """Programs of one run, in files of `folder`; None: each is jitted as usual.

    Args:
        facts: what the StableHLO is made from, beside the shapes of the arguments.
        environment: what a program is compiled from, beside the StableHLO.
        devices: that they run on.
    """

    def __init__(
        self,
        folder: Path | None,
        facts: Mapping[str, Any],
        environment: Mapping[str, Any],
        devices: Sequence[jax.Device],
    ) -> None:
        self._folder = folder
        self._facts = facts
        self._environment = environment
        self._devices = list(devices)
        self._claims: list[_Claim] = []
        self._checks: list[Future[None]] = []
        self._thread = ThreadPoolExecutor(1, "rtj-programs")
        self._asked = 0

    def kept(
        self,
        name: str,
        jitted: jax.stages.Wrapped,
        *,
        varying: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> Callable[..., Any]:
        """`jitted`, with the program of an earlier start where there is one.

        Args:
            name: of its files, and in messages.
            varying: the argument whose arrays have other shapes from call to call.
            options: the compiler's, that `jitted` has.
        """
        if self._folder is None:
            return jitted
        programs: dict[tuple[Any, ...], jax.stages.Compiled] = {}

        def call(*args: Any) -> Any:
            key = tuple(np.shape(leaf) for leaf in jax.tree.leaves(args[varying]))
            if key not in programs:
                shapes = jax.tree.map(_shape, args)
                programs[key] = self._program(name, jitted, shapes, options)
            return programs[key](*args)

        return call

    def check(self) -> None:
        """To be called after every step; returns at once.

        Comparing begins with the second call, so that it does not delay the first step.

        Raises:
            StaleProgram: a program was not that of the code.
        """
        self._asked += 1
        if self._asked > 1:
            self._start_checks()
        for check in [check for check in self._checks if check.done()]:
            self._checks.remove(check)
            check.result()

    def confirm(self) -> None:
        """Returns when every program in use has been compared; raises as `check`."""
        self._start_checks()
        while self._checks:
            self._checks.pop(0).result()

    def close(self) -> None:
        """Waits for the comparison that is under way; the others do not begin."""
        self._thread.shutdown(cancel_futures=True)

    def _program(
        self,
        name: str,
        jitted: jax.stages.Wrapped,
        shapes: tuple[Any, ...],
        options: Mapping[str, Any] | None,
    ) -> jax.stages.Compiled:
        note = self._path(f"{name}-of", self._facts, _described(shapes))
        noted = _told(read_note, note)
        if noted and noted != _NOT_TO_BE_TRUSTED:
            file = self._path(name, self._environment, noted, options)
            compiled = _told(read_program, file, self._devices)
            if compiled is not None:
                self._claims.append(_Claim(name, note, jitted, shapes, noted))
                return compiled
        lowered = jitted.lower(*shapes)
        lowered_hash = stablehlo_hash(lowered)
        file = self._path(name, self._environment, lowered_hash, options)
        compiled = _told(read_program, file, self._devices)
        if compiled is None:
            compiled, new = compile_lowered(lowered)
            if new:
                _written(write_program, file, compiled)
        if noted != _NOT_TO_BE_TRUSTED:
            _written(write_note, note, lowered_hash)
        return compiled

    def _path(self, name: str, *made_from: Any) -> Path:
        assert self._folder is not None
        text = json.dumps(made_from, sort_keys=True, default=str)
        return self._folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def _start_checks(self) -> None:
        self._checks += [self._thread.submit(_compare, c) for c in self._claims]
        self._claims.clear()


def open_programs(folder: Path | None, experiment: Experiment) -> KeptPrograms:
    """Those of a run; `folder` is not used where it has several processes."""
    if folder is None or jax.process_count() > 1:
        return KeptPrograms(None, {}, {}, [])
    devices = list(experiment.mesh.devices.flat)
    environment = environment_facts(devices)
    facts = environment | program_facts(experiment)
    return KeptPrograms(folder, facts, environment, devices)


def _compare(claim: _Claim) -> None:
    """Raises StaleProgram, and marks the note, if the code makes another program.

    It is not removed: what came out otherwise once may do so at each start, and would
    end every second run.
    """
    if stablehlo_hash(claim.jitted.lower(*claim.shapes)) == claim.lowered_hash:
        return
    _written(write_note, claim.note, _NOT_TO_BE_TRUSTED)
    raise StaleProgram(
        f"the {claim.name} kept as {claim.note} says is not what the code computes; it "
        "will not be used again, and nothing was saved; run the same command again"
    )


def _told(read: Callable[..., Any], path: Path, *args: Any) -> Any:
    """What `read` finds; None, with a warning, where the file cannot be used."""
    try:
        return read(path, *args)
    except BadProgramFile as error:
        _log.warning("%s cannot be used: %s", path, error)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return None


def _written(write: Callable[..., None], path: Path, content: Any) -> None:
    """Writes, or warns: whatever the disk, pickle or a backend says, a run goes on."""
    try:
        write(path, content)
    except Exception as error:
        _log.warning("%s cannot be kept: %s: %s", path, type(error).__name__, error)


def _described(shapes: tuple[Any, ...]) -> list[Any]:
    return [(leaf.shape, leaf.dtype.name) for leaf in jax.tree.leaves(shapes)]


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.Array):
        place = leaf.sharding if leaf.committed else None
        return jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=place, weak_type=leaf.weak_type
        )
    return jax.ShapeDtypeStruct(np.shape(leaf), np.result_type(leaf))
