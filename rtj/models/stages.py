"""Which stage of a network a parameter belongs to, for every family.

Stage 0 is the stem; ResNets, SE-ResNets, ResNeXts and DenseNets then have 4 stages,
MobileNet 5 (one for each size of its maps), Inception-V3 3 (its blocks 5, 6 and 7). The
classifier comes after the last, and so do all heads of a network for segmentation or
detection, whose classifier without `fc` is the module `backbone`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_STAGE = re.compile(r"(?:layer|block)(\d+)_|transition(\d+)|Mixed_(\d)")
_INCEPTION_BEFORE = 4
HEAD = "fc"
BACKBONE = "backbone"
_HEADS = (HEAD, "classifier", "aux_classifier", "fpn", "rpn", "head")


def stage_of(path: str | Sequence[str], stages: int) -> int:
    """The stage of a parameter, 0 to `stages` + 1; that is a head.

    Args:
        path: its keys in `params` or the path of its module; or the first key alone.
        stages: of the network, from `count_stages`.
    """
    first, *rest = (path,) if isinstance(path, str) else path
    name = rest[0] if first == BACKBONE else first
    if name in _HEADS:
        return stages + 1
    match = _STAGE.match(name)
    if match is None:
        return stages if name == "final_bn" else 0
    layer, transition, mixed = match.groups()
    return int(mixed) - _INCEPTION_BEFORE if mixed else int(layer or transition)


def count_stages(params: Mapping[str, Any] | Iterable[str]) -> int:
    """How many stages a network has, the stem aside.

    Args:
        params: of the network, or the names of a classifier's top-level modules.
    """
    if isinstance(params, Mapping):
        params = params.get(BACKBONE, params)
    return max(stage_of(name, 0) for name in params if name not in _HEADS)
