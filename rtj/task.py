"""What a run learns: the parts that a task gives to the loop, which knows none itself.

One module a task holds a `TASK`; a config names it with `config.task`.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rtj.data.prefetch import BatchIterator
from rtj.step_options import Batch, Loss
from rtj.teacher import Teacher

_MODULES = {
    "classification": "rtj.classification_task",
    "segmentation": "rtj.transfer.segmentation.task",
    "detection": "rtj.transfer.detection.task",
}


class Data(Protocol):
    """Examples of one split by index; what they hold is the task's.

    `name` says in messages and logs what this is; classes are 0 to num_classes - 1.
    """

    name: str
    num_classes: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Length(NamedTuple):
    """Of a run: updates in all, and in an epoch (batches may straddle epochs)."""

    total_steps: int
    steps_per_epoch: float


class Scores(Protocol):
    """Adds up what the evaluation step gives, batch by batch, on the host."""

    def add(self, part: dict[str, np.ndarray]) -> None:
        """Takes the step's results, the same ones in every process."""

    def result(self) -> dict[str, float]:
        """Fractions of 1, `loss` where there is one, and `examples`.

        Raises:
            RuntimeError: the counted examples are not the data set's.
        """


def check_counted(examples: int, skipped: int, expected: int) -> None:
    """Raises RuntimeError unless an evaluation has seen every example once."""
    if examples + skipped != expected:
        raise RuntimeError(
            f"evaluation counted {examples} examples and {skipped} that cannot be "
            f"decoded, of {expected}"
        )


class Task(Protocol):
    """Stateless; `experiment` is a `rtj.experiment.Experiment` of this task.

    Attributes:
        shown: train metrics on the progress line.
        score: what of an evaluation the best checkpoint has most of.
        weights_under: where `train.weights` go in the network's variables.
    """

    shown: tuple[str, ...]
    score: str
    weights_under: tuple[str, ...]

    def open_data(self, config: ConfigDict) -> tuple[Data, Data]:
        """The training and the held-out split; DataError if they are not there."""

    def class_names(self, source: Any) -> list[str] | None:
        """Of what `open_data` opened, in the order of the classes; None: not known."""

    def model(self, config: ConfigDict, num_classes: int) -> nn.Module:
        """The network; `model.init(key, images, train=False)` makes its variables."""

    def loss(
        self,
        config: ConfigDict,
        model: nn.Module,
        mesh: Mesh,
        length: Length,
        teacher: Teacher | None,
    ) -> Loss:
        """What a train step minimises."""

    def eval_step(
        self, config: ConfigDict, model: nn.Module, mesh: Mesh
    ) -> Callable[[dict[str, Any], Batch], dict[str, jax.Array]]:
        """A pure function of variables and a batch, to be jitted over `mesh`."""

    def initial_model(self, config: ConfigDict, model: nn.Module) -> nn.Module:
        """What `train.weights` are weights of: the network, or its backbone."""

    def training_batches(self, experiment: Any, start_step: int) -> BatchIterator:
        """This process's rows, from step `start_step` to the end of the run."""

    def evaluation_batches(self, experiment: Any) -> BatchIterator:
        """This process's rows of the whole held-out set, padded to whole batches."""

    def scores(
        self, experiment: Any, keep_rows: Callable[[np.ndarray], None]
    ) -> Scores:
        """Nothing added up yet; `keep_rows` as in `run_evaluation`."""

    def abstract_batch(self, config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a training batch, the largest if there are several."""


def task_of(config: ConfigDict) -> Task:
    """The task of a checked config."""
    task: Task = importlib.import_module(_MODULES[config.task]).TASK
    return task
