"""The weights that a run starts from, where they are not random."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from rtj.errors import RtjError
from rtj.state import TrainState
from rtj.weights import load_weights
from rtj.weights.fingerprint import fingerprint
from rtj.weights.head import Head

Flat = dict[tuple[str, ...], np.ndarray]


@dataclass(frozen=True)
class InitialWeights:
    """Variables by path, without those of a fresh classifier.

    Attributes:
        fingerprint: of all of them.
    """

    variables: Flat
    fingerprint: str


def open_initial_weights(
    config: ConfigDict, model: nn.Module, under: tuple[str, ...] = ()
) -> InitialWeights | None:
    """What `train.weights` names, weights of `model`; None where it is empty.

    Args:
        under: where in the network that is trained they belong, without a classifier;
            () if `model` is that network.

    Raises:
        CheckpointError, ConfigError: see `rtj.load_weights`.
    """
    train = config.train
    if not train.weights:
        return None
    head: Head = "drop" if train.head == "reset" or under else "keep"
    try:
        loaded = load_weights(model, train.weights, head=head, name=config.model.name)
    except RtjError as error:
        raise type(error)(f"train.weights={train.weights!r}: {error}") from error
    variables = jax.tree.map(np.asarray, flatten_dict(loaded))
    variables = {(p[0], *under, *p[1:]): leaf for p, leaf in variables.items()}
    return InitialWeights(variables, fingerprint(loaded))


def start_from(state: TrainState, initial: InitialWeights) -> TrainState:
    """A fresh state with these weights; what they do not hold stays as it is."""
    flat = flatten_dict(state.weights)

    def place(path: tuple[str, ...], leaf: jax.Array) -> jax.Array:
        value = initial.variables.get(path)
        if value is None:
            return leaf.copy()
        return jax.make_array_from_callback(
            leaf.shape, leaf.sharding, lambda index: value[index]
        )

    def weights() -> dict[str, Any]:
        return unflatten_dict({path: place(path, leaf) for path, leaf in flat.items()})

    average = None if state.average is None else weights()
    return state.replace(**weights(), average=average)
