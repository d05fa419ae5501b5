"""Runs that compile once."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
import pytest

import rtj
from rtj.config import flatten
from rtj.experiment import Experiment, build
from tests.transfer.runs import tiny


@dataclass(frozen=True)
class Shared(Experiment):
    """An experiment whose fresh state is computed once, like its steps."""

    known: dict[str, Any] = field(default_factory=dict)

    def init_state(self):
        if "state" not in self.known:
            self.known["state"] = jax.device_get(super().init_state())
        # A step overwrites the state that it is given.
        return jax.device_put(
            jax.tree.map(np.copy, self.known["state"]), self.state_sharding
        )


@pytest.fixture(scope="session")
def built():
    """`rtj.experiment.build`, with the same jitted steps for the same config.

    Tracing a step takes seconds even where its compiled program is kept.
    """
    known = {}

    def make(config):
        fields = flatten(config) | {"train.weights": ""}  # which no step knows
        key = repr(sorted(fields.items()))
        if key not in known:
            known[key] = Shared(**vars(build(config)))
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
