"""What the tasks on a classifier's network have in common."""

from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from rtj.models import create_model
from rtj.models.stages import BACKBONE
from rtj.parts import network_options


class BackboneTask:
    """Of `rtj.task.Task`, what segmentation and detection do alike."""

    weights_under = (BACKBONE,)

    def class_names(self, source: Any) -> list[str]:
        """The source's."""
        return list(source.class_names)

    def initial_model(self, config: ConfigDict, model: nn.Module) -> nn.Module:
        """The classifier whose weights the backbone takes."""
        return create_model(config.model.name, **network_options(config))
