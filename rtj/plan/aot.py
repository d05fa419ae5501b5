"""Compiles the real train step for TPUs that are not there.

libtpu, which pip installs anywhere, holds the whole TPU compiler; JAX gives it the
description of a slice and gets the program that its chips would run.
"""

import importlib.util
import os
import re
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from rtj import sharding
from rtj.errors import ConfigError
from rtj.experiment import Program, build_program
from rtj.plan.chips import Topology
from rtj.task import task_of
from rtj.teacher import planned_teacher
from rtj.transfer import scene_splits

# (classes, training examples) by task and data set, so that none need be prepared.
_SIZES = {
    ("classification", "imagenet"): (1000, 1_281_167),
    ("classification", "digits"): (10, 4000),
    ("segmentation", "ade20k"): (150, 20_210),
    ("segmentation", "scenes"): (11, scene_splits.LENGTHS["train"]),
    ("detection", "voc"): (20, 16_551),
    ("detection", "scenes"): (10, scene_splits.LENGTHS["train"]),
}

_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",  # or a second plan fails on a lock file
    "TPU_SKIP_MDS_QUERY": "1",  # or it asks a cloud's metadata server what it runs on
    # What that server would say; without them libtpu prints errors about the lack.
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Compiled:
    """A program that fits.

    Attributes:
        text: its HLO.
        memory_bytes: arguments, results that are not arguments overwritten,
            temporaries and code, of one chip.
        temp_bytes: the temporaries among them.
        flops: of one chip and step.
        xla_bytes: `bytes accessed` of XLA's cost analysis, on-chip memory too.
        seconds: that compiling took.
    """

    text: str
    memory_bytes: int
    temp_bytes: int
    flops: float
    xla_bytes: float
    seconds: float


@dataclass(frozen=True)
class TooLarge:
    """A program that does not fit.

    Attributes:
        needed_bytes: at least, of one chip, as the compiler says; None if it does not.
        seconds: that compiling took.
    """

    needed_bytes: int | None
    seconds: float


def prepare_host() -> None:
    """Set what libtpu reads when it is loaded, and leave this host's own chips alone.

    Values that the environment already has are kept, but XLA_FLAGS is removed.

    Raises:
        ConfigError: libtpu is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            "rtj.plan needs libtpu, which has the TPU compiler, and it is not "
            "installed: pip install 'rtj[plan]'"
        )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Meant for another compiler: libtpu kills the process at a flag it does not know.
    os.environ.pop("XLA_FLAGS", None)
    jax.config.update("jax_platforms", "cpu")


def compile_step(config: ConfigDict, topology: Topology) -> Compiled | TooLarge:
    """The train step of a checked config, compiled for every chip of a slice.

    Raises:
        ConfigError: the slice cannot share the batch, or `mesh.devices` is set.
        DataError: a data set of unknown size is not there.
    """
    mesh = topology_mesh(topology)
    if config.mesh.devices:
        raise ConfigError(
            f"mesh.devices={config.mesh.devices}, but a plan is for all {mesh.size} "
            f"chips of {topology.name}; allowed: 0"
        )
    sharding.check_batch(config.train.batch_size // config.train.accumulate, mesh)
    classes, examples = data_size(config)
    program = build_program(
        config,
        mesh,
        num_classes=classes,
        examples=examples,
        teacher=planned_teacher(config, classes),
    )
    lowered = program.train_step.lower(*abstract_inputs(program))
    return compile_lowered(lowered, config.train.accumulate)


def compile_lowered(
    lowered: jax.stages.Lowered, accumulate: int = 1
) -> Compiled | TooLarge:
    """A step lowered for the mesh of a slice, whose micro-batches are a loop."""
    begin = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return TooLarge(needed_bytes(str(error)), time.perf_counter() - begin)
    return _read(compiled, accumulate, time.perf_counter() - begin)


def topology_mesh(topology: Topology) -> Mesh:
    """The mesh `data` over the chips of a slice, one device a chip."""
    options: dict[str, Any] = {}
    if topology.chip.axes == 3:
        options["chip_config_name"] = "megacore"
    elif topology.chips == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    description = topologies.get_topology_desc(topology.name, platform="tpu", **options)
    devices: Any = np.array(sharding.in_mesh_order(description.devices))
    return Mesh(devices, ("data",), axis_types=(AxisType.Auto,))


def data_size(config: ConfigDict) -> tuple[int, int]:
    """Classes and training examples of the config's data set.

    The whole of ImageNet, ADE20K, Pascal VOC and of what is built in are known; other
    data are opened.
    """
    known = _SIZES.get((config.task, config.data.name))
    if known is None or config.data.train_split != "train":
        source, _ = task_of(config).open_data(config)
        known = source.num_classes, len(source)
    return config.model.num_classes or known[0], known[1]


def abstract_inputs(program: Program) -> tuple[Any, ...]:
    """Shapes and dtypes of all that a program's train step takes."""
    batch = program.task.abstract_batch(program.config)
    return program.abstract_state(), batch, *program.constants


def memory_bytes(stats: Any) -> int:
    """All that a program holds at once, in bytes of one chip.

    `stats` is from `jax.stages.Compiled.memory_analysis()`. Results that overwrite
    arguments (the donated state) take no memory of their own.
    """
    return (
        stats.argument_size_in_bytes
        + stats.output_size_in_bytes
        - stats.alias_size_in_bytes
        + stats.temp_size_in_bytes
        + stats.generated_code_size_in_bytes
    )


def needed_bytes(message: str) -> int | None:
    """What a compiler that ran out of memory says it needs.

    `required for HLO temporaries (91.80G) exceeds available HBM (15.75G)` or
    `Used 20.35G of 15.75G hbm`; None for other words.
    """
    size = r"(\d+(?:\.\d+)?)([KMGT]?)"
    for form in (rf"\({size}\) exceeds available HBM", rf"Used {size} of \S+ hbm"):
        if found := re.search(form, message):
            return round(float(found[1]) * _UNITS[found[2]])
    return None


def _read(compiled: jax.stages.Compiled, accumulate: int, seconds: float) -> Compiled:
    """XLA counts the FLOPs of a loop's body once, and accumulation is a loop.

    Its body is the whole step but the optimizer's update, ten FLOPs a parameter.
    """
    stats, cost = compiled.memory_analysis(), compiled.cost_analysis()
    assert stats is not None and cost is not None
    return Compiled(
        text=compiled.as_text() or "",
        memory_bytes=memory_bytes(stats),
        temp_bytes=stats.temp_size_in_bytes,
        flops=accumulate * cost["flops"],
        xla_bytes=cost["bytes accessed"],
        seconds=seconds,
    )
