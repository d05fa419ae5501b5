"""The index of a split's shards: made once, kept, and made anew when they change."""

import os
import subprocess
import sys

import pytest

from rtj.data import tar_index
from tests.data.tars import examples, sample, split, write_tar


@pytest.fixture
def indexed(monkeypatch):
    """The names of the shards whose headers were read."""
    names = []
    read = tar_index.read_shard

    def recording(path, name):
        names.append(path.name)
        return read(path, name)

    monkeypatch.setattr(tar_index, "read_shard", recording)
    return names


def test_the_index_is_kept_beside_the_shards_and_used_again(shards, indexed):
    name, root = shards(split("train", 2, 3))
    first = examples(name)
    assert indexed == ["train-000000.tar", "train-000001.tar"]
    assert examples(name) == first
    assert len(indexed) == 2
    assert [p.name for p in root.iterdir() if p.suffix != ".tar"] == [
        "rtj_index_train.npz"
    ]


def test_the_index_moves_with_its_shards(shards, indexed, tmp_path):
    name, root = shards(split("train", 2, 3))
    first = examples(name)
    root.rename(tmp_path / "moved")
    assert examples(f"tar:{tmp_path}/moved") == first
    assert len(indexed) == 2


def test_a_changed_added_or_removed_shard_makes_the_index_anew(shards, indexed):
    name, root = shards(split("train", 2, 3))
    examples(name)
    path = root / "train-000001.tar"
    stat = path.stat()
    write_tar(path, sample("new", 7))  # of the same size: a tar is padded to 10 KiB
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert path.stat().st_size == stat.st_size
    assert examples(name)[-1] == (b"new", 7, "train-000001.tar:new")
    assert len(indexed) == 4
    write_tar(root / "train-000002.tar", sample("added", 1))
    assert examples(name)[-1][0] == b"added"
    (root / "train-000000.tar").unlink()
    assert [image for image, _, _ in examples(name)] == [b"new", b"added"]


def test_a_damaged_index_is_made_anew(shards, indexed, caplog):
    name, root = shards(split("train", 1, 2))
    first = examples(name)
    index = root / "rtj_index_train.npz"
    for damaged in (b"", b"x" * 1000, index.read_bytes()[:-300]):
        index.write_bytes(damaged)
        assert examples(name) == first
        assert "cannot be read and is made anew" in caplog.text
        caplog.clear()
    assert len(indexed) == 4
    assert examples(name) == first and len(indexed) == 4


def test_where_the_shards_cannot_be_written_the_cache_keeps_the_index(
    shards, indexed, tmp_path
):
    name, root = shards(split("train", 1, 2))
    # Root may write into any folder, but nobody may write a file over a folder.
    (root / "rtj_index_train.npz").mkdir()
    first = examples(name)
    assert examples(name) == first and len(indexed) == 1
    kept = list((tmp_path / "cache" / "rtj").iterdir())
    assert [path.suffix for path in kept] == [".npz"]
    assert len(list(root.iterdir())) == 2


def test_where_nothing_can_be_written_the_index_is_made_each_time(
    shards, indexed, tmp_path, caplog
):
    name, root = shards(split("train", 1, 2))
    (root / "rtj_index_train.npz").mkdir()
    (tmp_path / "cache").touch()
    assert examples(name) == examples(name)
    assert len(indexed) == 2 and "the index cannot be kept: " in caplog.text


def test_processes_that_index_at_once_all_get_it(shards, repo_root):
    name, root = shards(split("train", 4, 50))
    code = (
        "import sys; from rtj.data import sources\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"s = sources.open_source({name!r}, 'train')\n"
        "print([s[i]['id'] for i in range(len(s))])"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=repo_root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    ids = [key for _, _, key in examples(name)]
    assert len(ids) == 200 and outputs == [f"{ids}\n"] * 3
    assert [p.name for p in root.iterdir() if p.suffix != ".tar"] == [
        "rtj_index_train.npz"
    ]


def test_long_indexing_says_how_far_it_is(shards, monkeypatch, caplog):
    monkeypatch.setattr(tar_index, "_REPORT_SECONDS", -1.0)
    name, _ = shards(split("train", 3, 2))
    examples(name)
    assert "2 of 3 shards, 4 samples" in caplog.text
