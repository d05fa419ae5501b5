"""The benchmarks run, do what they say, and divide the right numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtj.bench import __main__ as bench
from rtj.bench import contestants, input_speed, loop_speed, ours, photos
from rtj.bench.crops import BATCH, Work
from rtj.config import set_field
from rtj.data import crop


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    photos.make_folder(folder, 8)
    files = sorted(str(path) for path in (folder / "train").glob("*/*.jpg"))
    return Work(folder, tuple(files), cores=2, seconds=0.1)


def test_the_photos_are_jpegs_as_large_as_imagenets(work):
    assert len(work.files) == 8 * photos.LINKS
    distinct = {Path(file).read_bytes() for file in work.files}
    assert len(distinct) == 8
    for file in work.files[:8]:
        image = Image.open(file)
        assert (image.format, image.size) == ("JPEG", (500, 375))
        assert np.asarray(image).std() > 20


def test_peers_are_given_the_crops_that_rtj_cuts(work, monkeypatch):
    drawn = []

    def record(*arguments):
        drawn.append(crop_box(*arguments))
        return drawn[-1]

    crop_box = crop.random_box
    monkeypatch.setattr(crop, "random_box", record)
    one = Work(work.folder, work.files, cores=1, seconds=0.1)
    batches = ours.batches(one, antialias=False)
    assert next(batches).shape == (BATCH, 224, 224, 3)
    batches.close()
    cut = drawn[:BATCH]
    _, boxes = one.stream(BATCH)
    assert cut == [tuple(box) for box in boxes.tolist()]


def test_a_contestant_that_fails_is_reported_with_its_reason(work):
    broken = contestants.Contestant("x", "PIL", "rtj.bench.nowhere:batches", {}, True)
    assert "nowhere" in contestants.rate(broken, work)["error"]


def test_a_batch_that_is_not_what_was_asked_for_is_refused():
    from rtj.bench.contest import check

    good = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), np.uint8)
    check(good, full=False)
    check(good.transpose(0, 3, 1, 2).astype(np.float32), full=True)
    for bad in (good[:3], np.zeros_like(good), good.astype(np.float32)):
        with pytest.raises(ValueError, match="wrong batch"):
            check(bad, full=False)


def test_the_ratio_is_ours_over_the_best_peer_of_the_same_contest():
    def entry(rate, antialias=False, full=False):
        return {"images_per_s": rate, "antialias": antialias, "full": full}

    rates = {
        "rtj, plain": entry(120.0),
        "rtj, antialiased": entry(90.0, True),
        "a": entry(100.0),
        "b": entry(60.0),
        "b, antialiased": entry(45.0, True),
        "b, augmented": entry(30.0, full=True),
        "c": {"error": "not installed", "antialias": True, "full": True},
    }
    ratio = input_speed._ratio
    assert ratio(rates, antialias=False, full=False) == pytest.approx(1.2)
    assert ratio(rates, antialias=True, full=False) == pytest.approx(2.0)
    assert ratio(rates, antialias=False, full=True) == pytest.approx(4.0)
    assert ratio(rates, antialias=True, full=True) is None


@pytest.mark.slow
def test_the_command_prints_a_table_and_one_json_line(capsys, monkeypatch):
    only = [entry for entry in contestants.CONTESTANTS if "rtj" in entry.name]
    monkeypatch.setattr(input_speed, "CONTESTANTS", only[:2])
    waits = {"JPEGs": {"step_s": 0.1, "input_wait_s": 0.001, "share": 0.01}}
    monkeypatch.setattr(input_speed.loop_wait, "measure", lambda *_: waits)
    flags = ["--seconds=0.1", "--images=4", "--memory_images=640"]
    assert bench.main(["input", *flags, "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert result["images_per_s"]["rtj, plain"] > 0
    assert result["images_per_s"]["rtj, restart markers, plain"] > 0
    assert {"ratio_decode", "ratio_full"} <= result.keys()
    assert "ffcv" in result["not_run"]
    parts = result["microseconds"]["plain"]
    assert set(parts) == {"read", "decode", "resize", "collate", "transfer"}
    assert parts["decode"] > parts["read"]
    assert result["memory"]["open_files"][1] == 0
    assert any(line.startswith("rtj over the best peer") for line in lines)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["input", "--images=0"], "--images=0: 1 or more"),
        (["input", "--seconds=0"], "--seconds=0.0: more than 0"),
        (["input", "--loop_steps=20"], "--loop_steps=20: 30 or more"),
        (["output"], "invalid choice"),
    ],
)
def test_a_bad_flag_is_one_line_that_says_what_is_allowed(flags, message, capsys):
    assert bench.main(flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_checkpoint_is_measured_beside_orbax(capsys, tmp_path):
    flags = ["--network=resnet10d", "--saves=1", f"--folder={tmp_path}", "--json"]
    assert bench.main(["checkpoint", *flags, "--images_per_s=1000"]) == 0
    table, text = capsys.readouterr().out.rsplit("\n", 2)[:2]
    result = json.loads(text)
    for name in ("stall_s", "whole_s", "restore_s"):
        assert min(result[name], result[f"orbax_{name}"]) > 0
    assert result["stall_s"] < result["whole_s"]
    assert result["ratio"] == result["stall_s"] / result["orbax_stall_s"]
    assert result["share"] == pytest.approx(result["stall_s"] * 1000 / 1281167)
    # Weights and momentum, statistics, a step and a count, all of 4 bytes.
    assert result["bytes"] % 4 == 0
    assert result["disk_bytes"] > 0.8 * result["bytes"]
    assert "train state of resnet10d" in table
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flag", ["--saves=0", "--images_per_s=0", "--network=resnet9", "--folder=nowhere"]
)
def test_a_bad_flag_of_the_checkpoint_bench_is_named(flag, capsys):
    assert bench.main(["checkpoint", flag]) == 2
    assert flag.split("=")[0] in capsys.readouterr().err


@pytest.mark.slow
def test_the_loop_is_measured_beside_the_bare_step_and_compiles_it_once(
    monkeypatch, capsys
):
    def smaller(data, steps):
        config = small_config(data, steps)
        for field, value in {"model.width": 8, "data.image_size": 32}.items():
            set_field(config, field, value)
        return config

    small_config = loop_speed.small_config
    monkeypatch.setattr(loop_speed, "small_config", smaller)
    monkeypatch.setattr(loop_speed, "_TURNS", 1)
    assert bench.main(["loop", "--loop_steps=30", "--json"]) == 0
    table, text = capsys.readouterr().out.rsplit("\n", 2)[:2]
    result = json.loads(text)
    assert min(result["loop_step_s"], result["bare_step_s"]) > 0
    assert result["ratio"] == result["bare_step_s"] / result["loop_step_s"]
    assert result["compiles"] == 1
    assert "ms bare" in table


@pytest.mark.slow
def test_a_start_is_timed_cold_and_with_what_it_compiled(capsys, tfds_data_dir):
    flags = ["--row=zero_gamma,data=digits,images=40", "--networks=resnet10"]
    assert bench.main(["startup", *flags, "--repeats=1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["ratio"] == result["warm_s"] / result["cold_s"]
    assert min(result["import_s"], result["warm_s"], result["cold_s"]) > 0
    assert min(result["warm_cpu_s"], result["cold_cpu_s"]) > 0
    compiled = result["compile"]["resnet10"]
    assert min(compiled["trace_s"], compiled["lower_s"], compiled["compile_s"]) > 0


def test_a_start_that_fails_is_an_error(capfd):
    assert bench.main(["startup", "--row=zero_gama", "--repeats=1"]) == 1
    assert "the run ended before its first step" in capfd.readouterr().err
