"""What a run's programs are made from: the code, the config, the data, the machine."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from rtj.config import flatten
from rtj.experiment import Experiment
from rtj.preflight import code_hash
from rtj.workdir import versions

_FLAGS = "XLA_FLAGS", "LIBTPU_INIT_ARGS"


def program_facts(experiment: Experiment) -> dict[str, Any]:
    """What the StableHLO comes of, beside the shapes of the arguments."""
    teacher = experiment.teacher
    return {
        "code": code_hash(),
        "config": flatten(experiment.config),
        "classes": experiment.train_source.num_classes,
        "examples": len(experiment.train_source),
        "teacher": teacher.fingerprint if teacher else None,
    }


def environment_facts(devices: Sequence[jax.Device]) -> dict[str, Any]:
    """What a compiled program comes of, beside the StableHLO.

    All options of JAX are among them, and of the environment the compilers' flags.
    """
    return {
        "versions": versions(),
        "devices": [(d.id, d.platform, d.device_kind) for d in devices],
        "backend": devices[0].client.platform_version,
        "processor": _processor() if devices[0].platform == "cpu" else None,
        "cores": os.cpu_count(),  # XLA:CPU divides its loops among them
        "flags": {name: os.environ.get(name) for name in _FLAGS},
        "jax": jax.config.values,
    }


def _processor() -> str:
    """Model and instruction sets of this machine's, which XLA compiles for."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    return "".join(sorted({x for x in lines if x.startswith(("model", "flags"))}))
