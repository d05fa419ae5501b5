"""Conversions that are stopped, and what the same command makes of them."""

import fcntl
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rtj.data import sources
from rtj.data.prepare import __main__ as prepare
from rtj.data.prepare import array_record_file
from tests.data.conversions import (
    examples,
    jpeg,
    photo,
    run_convert,
    shards,
)

# Stops for good on the third image of the third shard.
STUCK = """
import sys, time
from pathlib import Path
from rtj.data.prepare import __main__ as prepare
from rtj.data.prepare import image_record
folder, *arguments = sys.argv[1:]
real, calls = image_record.encoded, []
def encoded(image):
    if len(list(Path(folder).glob("pets-*"))) == 2:
        calls.append(image)
        if len(calls) == 3:
            print("stuck", flush=True)
            time.sleep(600)
    return real(image)
image_record.encoded = encoded
sys.exit(prepare.run(arguments))
"""


@pytest.fixture
def killed(tree, tmp_path, repo_root):
    """A conversion killed within its third shard: its arguments and its folder."""
    data_dir = tmp_path / "killed"
    arguments = ["convert", f"folder:{tree}", "--name=pets", f"--data_dir={data_dir}"]
    arguments += ["--shard_mb=0.01", "--workers=1", "--short_side=32"]
    folder = data_dir / "pets" / "incomplete.rtj_1.0.0"
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(folder), *arguments],
        cwd=repo_root,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(list(folder.glob(".pets-*.tmp"))) == 1
    return arguments, folder


def test_a_killed_conversion_goes_on_to_the_same_bytes(killed, tree, tmp_path, capsys):
    arguments, folder = killed
    data_dir = folder.parents[1]
    assert not sources.is_prepared("tfds:pets", str(data_dir))
    assert prepare.run(["show", f"--data_dir={data_dir}", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert shown["prepared"] == []
    assert shown["leftovers"][0]["path"] == str(folder)
    assert f"a conversion of folder:{tree}" in shown["leftovers"][0]["what"]
    noted = json.loads((folder / "rtj_convert.json").read_text())["shards"]
    kept = {name: (folder / name).stat() for name in noted}
    assert len(kept) == 2

    assert prepare.run(arguments) == 0
    made = data_dir / "pets" / "1.0.0"
    for name, stat in kept.items():
        assert (made / name).stat().st_ino == stat.st_ino
        assert (made / name).stat().st_mtime_ns == stat.st_mtime_ns
    whole = tmp_path / "whole"
    assert prepare.run([*arguments, f"--data_dir={whole}"]) == 0
    assert len(shards(made)) > 3
    assert shards(made) == shards(whole / "pets" / "1.0.0")
    for split in ("train", "validation"):
        left = examples("tfds:pets", split, data_dir)
        assert left == examples("tfds:pets", split, whole)
    assert not [path for path in made.iterdir() if path.name.startswith(".")]
    assert not folder.exists()


def test_a_kept_shard_that_is_damaged_is_written_again(killed, tmp_path):
    arguments, folder = killed
    noted = json.loads((folder / "rtj_convert.json").read_text())["shards"]
    damaged = folder / min(noted)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:100] + bytes(len(content) - 100))
    assert prepare.run(arguments) == 0
    whole = tmp_path / "whole"
    assert prepare.run([*arguments, f"--data_dir={whole}"]) == 0
    made = folder.with_name("1.0.0")
    assert shards(made) == shards(whole / "pets" / "1.0.0")


def another_image(tree):
    path = tree / "train" / "owl" / "train03.jpg"
    path.write_bytes(jpeg(photo(999, 50, 50)))


def one_image_more(tree):
    (tree / "val" / "cat" / "val99.jpg").write_bytes(jpeg(photo(999, 50, 50)))


def another_name(tree):
    (tree / "val" / "cat" / "val00.jpg").rename(tree / "val" / "cat" / "a.jpg")


@pytest.mark.parametrize(
    ("change", "flags", "named"),
    [
        (another_image, [], "splits.train.fingerprint was"),
        (one_image_more, [], "splits.validation"),
        (another_name, [], "splits.validation.fingerprint"),
        (None, ["--quality=50"], "reencoding.quality was 92 and is 50"),
        (None, ["--shard_mb=0.02"], "splits.train.shard_lengths was"),
    ],
)
def test_another_plan_does_not_go_on(tree, tmp_path, capsys, change, flags, named):
    arguments = ["--short_side=32", "--shard_mb=0.01"]
    folder = tmp_path / "pets" / "incomplete.rtj_1.0.0"
    assert run_convert(f"folder:{tree}", tmp_path, *arguments) == 0
    folder.with_name("1.0.0").rename(folder)  # as if stopped before the end
    if change:
        change(tree)
    before = shards(folder)
    assert run_convert(f"folder:{tree}", tmp_path, *arguments, *flags) == 2
    message = capsys.readouterr().err
    assert named in message and f"delete or rename {folder}" in message
    assert shards(folder) == before


def test_two_conversions_at_once_do_not_mix(tree, tmp_path, capsys):
    folder = tmp_path / "pets" / "incomplete.rtj_1.0.0"
    folder.mkdir(parents=True)
    with (folder / "rtj_convert.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run_convert(f"folder:{tree}", tmp_path) == 2
    assert "another process is converting" in capsys.readouterr().err
    assert run_convert(f"folder:{tree}", tmp_path) == 0


LIMITED = """
import resource, sys
from rtj.data.prepare import __main__ as prepare
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
sys.exit(prepare.run(sys.argv[1:]))
"""


def test_a_full_disk_keeps_finished_shards(tree, tmp_path, repo_root):
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    (tree / "train" / "owl" / "zzz.jpg").write_bytes(
        jpeg(Image.fromarray(noise), quality=95)
    )
    arguments = ["convert", f"folder:{tree}", "--name=pets", f"--data_dir={tmp_path}"]
    arguments += ["--shard_mb=0.1"]
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments],
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    folder = tmp_path / "pets" / "incomplete.rtj_1.0.0"
    assert result.returncode == 5, result.stderr
    assert result.stderr.startswith(f"rtj: {folder} cannot be written: ")
    assert "finished shards are kept" in result.stderr
    kept = shards(folder)
    assert kept and not any(name.startswith(".") for name in kept)
    assert prepare.run(arguments) == 0
    made = shards(folder.with_name("1.0.0"))
    assert kept.items() < made.items()
    assert examples("tfds:pets", "train", tmp_path) == examples(
        f"folder:{tree}", "train"
    )


def test_too_small_a_disk_is_seen_first(tree, tmp_path, monkeypatch, capsys):
    usage = array_record_file.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        array_record_file.shutil, "disk_usage", lambda path: usage._replace(free=10_000)
    )
    assert run_convert(f"folder:{tree}", tmp_path) == 5
    assert (
        "needs about 0.00 GB and its disk has 0.00 GB free" in capsys.readouterr().err
    )
    assert not list(tmp_path.rglob("*.array_record*"))
