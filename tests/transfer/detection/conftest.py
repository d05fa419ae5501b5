"""torchvision's detection operations, and boxes that break careless code."""

from pathlib import Path

import numpy as np
import pytest

from rtj.sharding import make_mesh
from tests.transfer.detection.plain import ODD_BOXES

PARITY = Path(__file__).parents[2] / "fixtures" / "parity"


@pytest.fixture(scope="session")
def torchvision():
    """Inputs and float64 results of torchvision 0.29.1; features are NCHW."""
    with np.load(PARITY / "torchvision.detection_ops.npz") as file:
        return dict(file)


@pytest.fixture
def odd_boxes():
    return ODD_BOXES


@pytest.fixture(scope="session")
def meshes():
    """One device and eight."""
    return make_mesh(1), make_mesh(8)
