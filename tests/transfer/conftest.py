"""Runs that compile once."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import rtj
from rtj.config import flatten
from rtj.experiment import Experiment, build
from rtj.weights.names import to_torch
from rtj.weights.safetensors_file import write_safetensors
from tests.transfer.folders import WRITERS
from tests.transfer.runs import classifier_variables, folder_config, tiny
from tests.weights.networks import NAME


@dataclass(frozen=True)
class Shared(Experiment):
    """An experiment whose fresh state is computed once, like its steps."""

    known: dict[str, Any] = field(default_factory=dict)

    def init_state(self, **options):
        if "state" not in self.known:
            self.known["state"] = jax.device_get(super().init_state(**options))
        # A step overwrites the state that it is given.
        return jax.device_put(
            jax.tree.map(np.copy, self.known["state"]), self.state_sharding
        )


@pytest.fixture(scope="session")
def built():
    """`rtj.experiment.build`, with the same jitted steps for the same config.

    Tracing a step takes seconds even where its compiled program is kept.
    """
    known: dict[str, Shared] = {}
    states: dict[str, dict[str, Any]] = {}

    def make(config):
        fields = flatten(config) | {"train.weights": ""}  # which no step knows
        key = repr(sorted(fields.items()))
        if key not in known:
            # A fresh state is the same on any devices.
            fields = {k: v for k, v in fields.items() if k != "mesh.devices"}
            state = states.setdefault(repr(sorted(fields.items())), {})
            known[key] = Shared(**vars(build(config)), known=state)
        return replace(known[key], config=config)

    return make


@pytest.fixture(scope="session")
def share_steps(built):
    """Makes the runs of a session use `built`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtj.loop.build", built)
        patch.setattr("rtj.evaluation.build", built)
        yield


@pytest.fixture(scope="session")
def whole_run(share_steps, tmp_path_factory):
    """Gives the workdir and the result of a run of six steps without a stop."""
    runs = {}

    def run(task):
        if task not in runs:
            workdir = tmp_path_factory.mktemp(task)
            runs[task] = workdir, rtj.train(tiny(task), workdir)
        return runs[task]

    return run


@dataclass(frozen=True)
class FolderRun:
    """An epoch on a folder of `tests.transfer.folders`, and an evaluation.

    Attributes:
        messages: what was logged.
        compiled: how often the train step and the evaluation step were.
    """

    root: Path
    config: ConfigDict
    workdir: Path
    result: dict[str, Any]
    messages: list[str]
    compiled: tuple[int, int]


class Messages(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record):
        self.texts.append(record.getMessage())


@pytest.fixture(scope="session")
def folder_run(built, share_steps, classifier_file, tmp_path_factory):
    """Gives the `FolderRun` of a task; the detector starts from a classifier."""
    runs = {}

    def run(task):
        if task not in runs:
            root = tmp_path_factory.mktemp(f"{task}_folder") / "data"
            WRITERS[task](root)
            config = folder_config(task, root, classifier_file)
            workdir, log = root.parent / "run", Messages()
            logging.getLogger("rtj").addHandler(log)
            try:
                result = rtj.train(config, workdir)
            finally:
                logging.getLogger("rtj").removeHandler(log)
            steps = built(config).train_step, built(config).eval_step
            compiled = steps[0]._cache_size(), steps[1]._cache_size()
            runs[task] = FolderRun(root, config, workdir, result, log.texts, compiled)
        return runs[task]

    return run


@pytest.fixture(scope="session")
def classifier_file(tmp_path_factory):
    """A safetensors file as timm writes them, of `classifier_variables()`."""
    path = tmp_path_factory.mktemp("classifier") / "w.safetensors"
    write_safetensors(path, to_torch(NAME, classifier_variables()), {"format": "pt"})
    return path
