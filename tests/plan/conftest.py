"""Shared set-up of the tests of rtj.plan."""

import pytest

import rtj


@pytest.fixture
def promised():
    """The keys of a plan's JSON that users rely on."""
    return {
        "fits",
        "hbm_bytes",
        "memory_bytes",
        "temp_bytes",
        "flops",
        "bytes_accessed",
        "all_reduces",
        "collective_bytes",
        "step_s",
        "bound",
        "images_per_s",
        "max_batch",
    }


@pytest.fixture
def imagenet_config():
    return rtj.get_config("ablation:efficient,data=imagenet")
