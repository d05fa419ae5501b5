"""The loss guard against medians counted by hand."""

import pytest

from rtj.config import check, config_hash
from rtj.errors import ConfigError
from rtj.loss_guard import LossGuard


def fed(ratio, losses):
    guard = LossGuard(ratio)
    assert [guard.exceeded(loss) for loss in losses] == [None] * len(losses)
    return guard


@pytest.mark.parametrize(("loss", "median"), [(6.0, None), (6.01, 2.0)])
def test_a_loss_above_the_ratio_to_the_median_is_found(loss, median):
    # Of nineteen 1s, nineteen 3s and one 2 the median is 2, the ratio 3.
    guard = fed(3.0, [1.0] * 19 + [3.0] * 19 + [2.0])
    assert guard.exceeded(loss) == median


def test_it_takes_twenty_losses_before_it_says_anything():
    assert fed(2.0, [1.0] * 19).exceeded(100.0) is None
    assert fed(2.0, [1.0] * 20).exceeded(100.0) == 1.0


def test_only_the_last_fifty_count():
    guard = fed(1000.0, [1.0] * 100 + [10.0] * 25)
    assert guard.exceeded(10001.0) == 5.5  # 25 of each
    guard = fed(1000.0, [1.0] * 100 + [10.0] * 26)
    assert guard.exceeded(10001.0) == 10.0


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_losses_that_are_not_finite_are_left_to_the_skip(loss):
    guard = fed(2.0, [1.0] * 19 + [loss] * 30)
    assert guard.exceeded(100.0) is None  # the twentieth that counts
    assert guard.exceeded(100.0) == 1.0


def test_zero_is_off():
    fed(0.0, [1.0] * 50 + [1e9])


@pytest.mark.parametrize("ratio", [0.5, 1.0, -2.0, float("inf"), float("nan"), True])
def test_a_ratio_that_every_loss_exceeds_is_refused(tiny_config, ratio):
    config = tiny_config()
    with config.unlocked(), config.ignore_type():
        config.train.max_loss_ratio = ratio
    with pytest.raises(ConfigError, match=r"train\.max_loss_ratio=.*0 \(off\)"):
        check(config)


def test_it_may_differ_on_resume(tiny_config):
    guarded = tiny_config(**{"train.max_loss_ratio": 5.0})
    check(guarded)
    assert config_hash(guarded) == config_hash(tiny_config())
