"""Which stage of a network a parameter belongs to, for every family.

Stage 0 is the stem; ResNets, SE-ResNets, ResNeXts and DenseNets then have 4 stages,
MobileNet 5 (one for each size of its maps), Inception-V3 3 (its blocks 5, 6 and 7). The
classifier comes after the last.
"""

import re
from collections.abc import Iterable

_STAGE = re.compile(r"(?:layer|block)(\d+)_|transition(\d+)|Mixed_(\d)")
_INCEPTION_BEFORE = 4
HEAD = "fc"


def stage_of(name: str, stages: int) -> int:
    """The stage of a top-level module, 0 to `stages` + 1; that is the classifier.

    Args:
        name: of the module, the first key of `params`.
        stages: of the network, from `count_stages`.
    """
    if name == HEAD:
        return stages + 1
    match = _STAGE.match(name)
    if match is None:
        return stages if name == "final_bn" else 0
    layer, transition, mixed = match.groups()
    return int(mixed) - _INCEPTION_BEFORE if mixed else int(layer or transition)


def count_stages(names: Iterable[str]) -> int:
    """How many stages the network with these top-level modules has, the stem aside."""
    return max(stage_of(name, 0) for name in names if name != HEAD)
