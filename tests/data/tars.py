"""Tar files of samples for the tests of `tar:PATH`."""

import io
import os
import tarfile

from rtj.data import sources

BLOCK = 512
# A header and a block of data for each of sample's two files, then the end marker.
SAMPLE = 4 * BLOCK


def write_tar(path, members, format=tarfile.PAX_FORMAT):
    """A tar of (name, bytes) pairs, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def sample(key, label, image=None):
    return [(f"{key}.cls", str(label).encode()), (f"{key}.jpg", image or key.encode())]


def split(prefix, shards, samples, classes=3):
    """{shard's name: members}; the labels go round the classes."""
    return {
        f"{prefix}-{shard:06d}.tar": [
            member
            for i in range(samples)
            for member in sample(f"{prefix}{shard}_{i}", (shard + i) % classes)
        ]
        for shard in range(shards)
    }


def examples(name, split="train"):
    source = sources.open_source(name, split)
    return [tuple(source[i].values()) for i in range(len(source))]


def cut(path, size):
    os.truncate(path, size)


def overwrite(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
