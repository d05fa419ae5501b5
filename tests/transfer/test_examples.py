"""Sizes, faults that are counted, and parts of sources."""

import errno
import functools
import io
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from rtj.data.images import UndecodableImage
from rtj.data.memory import ArraySource
from rtj.data.subset import Subset
from rtj.errors import DataError
from rtj.transfer import examples
from rtj.transfer.examples import Noted, Sizes, UnusableExample
from rtj.transfer.parts import Joined, Part


def encoded(kind, width=7, height=5, **options):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (9, 8, 7)).save(buffer, kind, **options)
    return buffer.getvalue()


class Numbers:
    """The numbers from `first` on, with sizes that tell them apart."""

    class_names: tuple[str, ...] = ("a", "b")
    num_classes = 2

    def __init__(self, first, count, name="numbers"):
        self.first, self.count, self.name = first, count, name

    def __len__(self):
        return self.count

    def __getitem__(self, index: int, /) -> int:
        return self.first + index

    def size(self, index: int, /) -> tuple[int, int]:
        return self.first + index, 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_size_is_height_and_width(kind):
    assert examples.image_size(encoded(kind, 7, 5), "x") == (5, 7)


def test_a_size_takes_the_header_alone(tmp_path):
    image = Image.effect_noise((300, 200), 50)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    half = buffer.getvalue()[: len(buffer.getvalue()) // 2]
    assert examples.image_size(half, "x") == (200, 300)
    (tmp_path / "half.jpg").write_bytes(half)
    assert examples.file_size(tmp_path / "half.jpg", "x") == (200, 300)


def test_exif_orientation_does_not_turn_a_size():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert examples.image_size(encoded("JPEG", 7, 5, exif=exif), "x") == (5, 7)


def test_what_is_no_image_is_an_example_that_cannot_be_used(tmp_path):
    with pytest.raises(UndecodableImage, match="example x: the image cannot"):
        examples.image_size(b"no image", "x")
    with pytest.raises(
        UnusableExample, match=r"example x: its image is missing.*no\.j"
    ):
        examples.file_size(tmp_path / "no.jpg", "x")
    with pytest.raises(UnusableExample, match="example x: its mask is missing"):
        examples.read_file(tmp_path / "no.png", "x", "mask")


def test_a_disk_that_fails_is_no_fault_of_the_example(tmp_path, monkeypatch):
    def fail(path, flags):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.open", fail)
    read_mask = functools.partial(examples.read_file, what="mask")
    for read in (examples.file_size, read_mask):
        with pytest.raises(DataError, match=r"a\.png cannot be read: Input") as caught:
            read(tmp_path / "a.png", "x")
        assert not isinstance(caught.value, UndecodableImage)


def test_each_size_is_measured_once():
    sizes, measured = Sizes(3), []

    def measure(index):
        measured.append(index)
        return 10 + index, 70_000

    for _ in range(2):
        assert [sizes.get(i, functools.partial(measure, i)) for i in (2, 0)] == [
            (12, 70_000),
            (10, 70_000),
        ]
    assert measured == [2, 0]


def test_a_size_that_cannot_be_measured_is_tried_again():
    sizes = Sizes(1)
    with pytest.raises(UndecodableImage):
        sizes.get(0, lambda: examples.image_size(b"", "x"))
    assert sizes.get(0, lambda: (3, 4)) == (3, 4)


def test_a_fault_is_counted_once_and_the_first_ten_are_named(caplog):
    noted = Noted("shelf", "boxes left out")
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: noted.add(f"e{k % 100}", k % 2, "why"), range(800)))
        assert len(noted) == 100
        noted.add("e0", 1, "another part")
    assert len(noted) == 101
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 11
    assert lines[0].startswith("shelf: boxes left out: ") and lines[0].endswith("why")
    assert any("more are only counted" in line for line in lines)
    assert "shelf: boxes left out: 100 by now" in lines


def test_sources_end_to_end_are_one():
    joined = Joined([Numbers(0, 3), Numbers(10, 0), Numbers(20, 2)], "both")
    assert (joined.name, len(joined), joined.num_classes) == ("both", 5, 2)
    assert [joined[i] for i in range(5)] == [0, 1, 2, 20, 21]
    assert [joined.size(i)[0] for i in range(5)] == [0, 1, 2, 20, 21]
    with pytest.raises(IndexError):
        joined[5]


def test_sources_of_other_classes_do_not_join():
    other = Numbers(0, 1, "other")
    other.class_names = ("a", "c")
    with pytest.raises(DataError, match=r"both: other has the classes .*'c'"):
        Joined([Numbers(0, 1), other], "both")


def test_a_part_is_that_of_classification():
    images = ArraySource(np.zeros((50, 1, 1, 3), np.uint8), np.zeros(50, int), 1)
    wanted = Subset(images, ("10%", "60%"))
    part = Part(Numbers(0, 50), ("10%", "60%"))
    assert len(part) == 25
    assert [part[i] for i in range(25)] == wanted._indices.tolist()
    assert [part.size(i)[0] for i in range(25)] == wanted._indices.tolist()
    rest = [Part(Numbers(0, 50), bounds) for bounds in (("", "10%"), ("60%", ""))]
    seen = {p[i] for p in (part, *rest) for i in range(len(p))}
    assert seen == set(range(50))


def test_a_part_beyond_the_source_is_refused():
    with pytest.raises(DataError, match=r"numbers: the part \[:6\] of 5"):
        Part(Numbers(0, 5), ("", "6"))
