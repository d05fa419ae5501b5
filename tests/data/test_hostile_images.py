"""Images made to hurt: bombs, pipes, mutated files. Each is refused or decoded."""

import contextlib
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from rtj.data import image_limits, images, pipeline
from rtj.data.images import UndecodableImage, open_image
from rtj.data.memory import ArraySource
from rtj.data.prepare.verify import verify
from rtj.data.reading import Reading
from rtj.errors import DataError
from rtj.predict import find_images
from rtj.preprocess import Preprocess, load_image
from rtj.transfer.examples import file_size, read_file
from tests.data.hostile_images import SEEDS, routes

SIDE = 60_000


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(width, height, rows, *, before=b"", bits=8, colours=0):
    """A PNG whose first `rows` rows are zeros; the others are missing."""
    line = 1 + width * bits // 8 * (3 if colours == 2 else 1)
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    body = zlib.compress(bytes(line * rows), 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


def resized_jpeg(data, marker):
    at = data.index(marker) + 5
    return data[:at] + struct.pack(">HH", SIDE, SIDE) + data[at + 4 :]


def webp_canvas():
    size = struct.pack("<I", 16_383)[:3]  # a side of 16,384, the largest of WebP
    return SEEDS["animated"][:24] + size + size + SEEDS["animated"][30:]


def gif_screen():
    return SEEDS["gif"][:6] + struct.pack("<HH", SIDE, SIDE) + SEEDS["gif"][10:]


def bmp_size():
    return SEEDS["bmp"][:18] + struct.pack("<ii", SIDE, SIDE) + SEEDS["bmp"][26:]


BOMBS = {
    "PNG": png(SIDE, SIDE, 100),
    "PNG of one bit": png(SIDE, SIDE, 60_000, bits=1),
    "JPEG": resized_jpeg(SEEDS["jpeg"], b"\xff\xc0"),
    "progressive JPEG": resized_jpeg(SEEDS["progressive"], b"\xff\xc2"),
    "WebP": webp_canvas(),
    "GIF": gif_screen(),
    "BMP": bmp_size(),
    "PPM": b"P6 60000 60000 255\n" + bytes(300),
}


@pytest.mark.parametrize("pillows_own_limit", [True, False])
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_by_its_header_wherever_images_are_decoded(
    kind, pillows_own_limit, monkeypatch, tmp_path
):
    if not pillows_own_limit:  # as much code on the web sets it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for name, run in routes(tmp_path).items():
        if name == "mask" and not kind.startswith("PNG"):
            continue
        with pytest.raises((UndecodableImage, DataError), match=r"pixels") as caught:
            run(BOMBS[kind])
        assert "178956970" in str(caught.value).replace(",", "")


def test_a_bomb_is_counted_as_a_bad_image_in_training_and_evaluation():
    good = np.zeros((8, 8, 3), np.uint8)
    source = ArraySource([good, BOMBS["PNG"], good, good], [0] * 4, 1, name="shelf")
    reading = Reading(max_bad_images=0.25)
    with pipeline.eval_batches(
        source, batch_size=4, image_size=4, eval_resize=4, reading=reading
    ) as batches:
        assert next(batches)["mask"].tolist() == [True, False, True, True]
    with pytest.raises(DataError, match=r"1: the image cannot be decoded.*1 of 4 im"):
        list(pipeline.eval_batches(source, batch_size=4, image_size=4, eval_resize=4))


def test_a_bomb_is_counted_by_verify(tree):
    image = next(path for path in (tree / "train").rglob("*.*") if path.is_file())
    image.write_bytes(BOMBS["PNG"])
    report = verify(f"folder:{tree}", splits=["train"], decode=True)
    assert [*report.splits["train"].undecodable] == [image.relative_to(tree).as_posix()]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_just_below_the_limit_is_let_through():
    width = image_limits.MAX_PIXELS // 1000
    opened = open_image(png(width, 1000, 1), "x", "pillow")
    assert (opened.width, opened.height) == (width, 1000)
    with pytest.raises(UndecodableImage, match=r"178956970|178,956,970"):
        open_image(png(width + 1, 1000, 1), "x", "pillow")


def test_a_line_is_not_blown_up_by_resizing_its_shorter_side(tmp_path):
    path = tmp_path / "line.png"
    path.write_bytes(png(1_000_000, 1, 1))
    with pytest.raises(DataError, match=r"256000000 x 256 pixels; allowed: 178,956"):
        load_image(path, Preprocess())


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_many_scans_of_a_jpeg_cost_no_more_than_the_largest_image():
    empty_scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x10"
    whole = SEEDS["progressive"]
    some = whole[:-2] + empty_scan * 100 + whole[-2:]
    for decoder in ("simplejpeg", "pillow"):
        assert open_image(some, "x", decoder).region((0, 0, 65, 48)).shape == (
            48,
            65,
            3,
        )
    at = whole.index(b"\xff\xc2") + 5
    large = some[:at] + struct.pack(">HH", 10_000, 10_000) + some[at + 4 :]
    for decoder in ("simplejpeg", "pillow"):
        with pytest.raises(UndecodableImage, match=r"10000 x 10000 pixels in 11\d s"):
            open_image(large, "x", decoder)


@pytest.mark.parametrize(
    "before",
    [
        chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2**26))),
        chunk(b"iTXt", b"key\0\1\0\0\0" + zlib.compress(bytes(2**26))),
        chunk(b"iCCP", b"key\0\0" + zlib.compress(bytes(2**26))),
        chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2**20))) * 70,
    ],
    ids=["zTXt", "iTXt", "iCCP", "many"],
)
def test_texts_and_profiles_of_a_png_are_not_unpacked_without_bound(before):
    data = png(4, 4, 4, before=before)
    assert len(data) < 2**17
    tracemalloc.start()
    with contextlib.suppress(UndecodableImage):
        open_image(data, "x", "pillow").region((0, 0, 4, 4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 66 * 2**20


@pytest.mark.parametrize(
    ("field", "value"),
    [(9, 0), (9, 5), (9, 255), (11, 0), (11, 15)],  # components, sampling factors
)
def test_a_frame_header_with_impossible_numbers_is_one_error(field, value):
    data = bytearray(SEEDS["jpeg"])
    data[data.index(b"\xff\xc0") + field] = value
    for decoder in ("simplejpeg", "pillow"):
        with pytest.raises(UndecodableImage):
            open_image(bytes(data), "x", decoder).region((0, 0, 65, 48))


def test_programs_in_the_place_of_images_are_not_started():
    eps = (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(UndecodableImage, match="cannot identify"):
        open_image(eps, "x", "pillow")
    assert not {".eps", ".pdf", ".ps"} & image_limits.suffixes()
    assert {".jpg", ".png", ".webp", ".gif", ".tif"} <= image_limits.suffixes()


def test_a_pipe_among_the_images_is_not_waited_for(tmp_path):
    pipe = tmp_path / "a.jpg"
    os.mkfifo(pipe)
    assert image_limits.read_image_file(pipe) == b""
    assert read_file(pipe, "x", "image") == b""
    with pytest.raises(UndecodableImage):
        file_size(pipe, "x")
    assert list(find_images([str(tmp_path)])) == [(pipe, None)]
    with pytest.raises(DataError, match=r"a\.jpg"):
        load_image(pipe, Preprocess())


def test_of_a_device_nothing_is_read(tmp_path):
    (tmp_path / "a.jpg").symlink_to("/dev/zero")
    assert image_limits.read_image_file(tmp_path / "a.jpg") == b""


def test_a_file_longer_than_any_image_is_not_read_to_its_end(tmp_path, monkeypatch):
    for module in (image_limits, images):
        monkeypatch.setattr(module, "MAX_BYTES", 900)
    path = tmp_path / "long.jpg"
    path.write_bytes(SEEDS["jpeg"])
    data = image_limits.read_image_file(path)
    assert data == SEEDS["jpeg"][:901]
    for decoder in ("simplejpeg", "pillow"):
        with pytest.raises(UndecodableImage, match="more than 900 bytes"):
            open_image(SEEDS["jpeg"], "x", decoder)


def test_a_thread_does_not_keep_the_memory_of_a_large_image(monkeypatch):
    monkeypatch.setattr(images, "_KEPT_BYTES", 1000)
    monkeypatch.setattr(images, "_THREAD", type("Local", (), {})())
    open_image(SEEDS["jpeg"], "x", "simplejpeg").region((0, 0, 65, 48))
    assert not hasattr(images._THREAD, "buffer")


def test_no_other_place_opens_images(repo_root):
    for path in (repo_root / "rtj").rglob("*.py"):
        if path.name != "image_limits.py" and "bench" not in path.parts:
            assert "Image.open(" not in path.read_text(), path


def test_every_mutated_image_gives_pixels_or_one_error(repo_root, tmp_path):
    count = 200
    command = [sys.executable, "-W", "ignore", "-m", "tests.data.hostile_images"]
    done = subprocess.run(
        [*command, str(count), str(tmp_path)],
        cwd=repo_root,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == count * len(routes(tmp_path))
    assert not [row for row in rows if row[2] not in ("pixels", "refused")]
    found = Counter((route, outcome) for _, route, outcome in rows)
    for route in ("eval simplejpeg", "train pillow", "predict", "reencode"):
        assert found[route, "pixels"] > 40 and found[route, "refused"] > 40
