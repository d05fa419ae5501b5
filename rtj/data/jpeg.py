"""JPEG files without the parts that a crop does not need, still as JPEG files.

A decoder that only takes whole files spends as much on a small crop as on the whole
image. What it would throw away can be left out of the file before, exactly:

- The rows below a crop: the height stands in two bytes of the frame header, and a
  sequential decoder stops there.
- Everything outside it, where the file has restart markers that cut every row of
  blocks into equal runs (`python -m rtj.data.prepare convert --restart_blocks`
  writes such files): a run can be decoded without those before it.

No maintained Python package was found that decodes a region with libjpeg-turbo and
brings the library along: PyTurboJPEG 2.6 has no region and needs the system's library,
simplejpeg decodes whole images, nvImageCodec 0.9 took longer for a region than for the
whole on a CPU. TensorFlow's `decode_and_crop_jpeg`, called from a thread, made 1,540
crops a second and core where simplejpeg made 1,570 of whole images, 1,680 of files cut
below the crop and 1,950 of files with restart markers (500x375, 51 kB), so it is a peer
of `python -m rtj.bench input` and not a decoder here.

The pixels of the crop are those of the whole file, bit for bit: up to one pixel
beyond the crop is kept, which is as far as chroma upsampling looks.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rtj.data.crop import IntBox

_SOF_SEQUENTIAL = (0xC0, 0xC1)
_SOF_OTHER = (0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_DRI, _SOS, _EOI = 0xDD, 0xDA, 0xD9
_RESTART, _END = b"\xff\xd0", b"\xff\xd9"
# Some cameras and tools append a little; an end farther back is none.
_TAIL = 4096


@dataclass(frozen=True)
class Layout:
    """Where things stand in a JPEG file.

    Attributes:
        width, height: of the image, pixels.
        components: 1 (grey), 3 (colour) or 4 (CMYK).
        sequential: one interleaved scan of 8-bit Huffman codes, so rows can be cut.
        unit: (width, height) of one block of all components (an MCU), pixels.
        restart_every: blocks between restart markers, 0 for none.
        frame, scan: offsets of the frame header and of the scan's data.
    """

    width: int
    height: int
    components: int
    sequential: bool
    unit: tuple[int, int]
    restart_every: int
    frame: int
    scan: int

    @property
    def units_per_row(self) -> int:
        """Blocks in a row of them."""
        return -(-self.width // self.unit[0])


def parse(data: bytes) -> Layout | None:
    """The layout of a JPEG file with 8-bit samples, None for anything else.

    About 10 us. A file without an end marker, one that was truncated, gives None.
    """
    if data[:2] != b"\xff\xd8" or data.rfind(b"\xff\xd9", -_TAIL) < 0:
        return None
    position, restart_every, frame = 2, 0, 0
    try:
        while True:
            while data[position + 1] == 0xFF:  # fill bytes
                position += 1
            if data[position] != 0xFF:
                return None
            marker = data[position + 1]
            (length,) = struct.unpack_from(">H", data, position + 2)
            if marker == _DRI:
                (restart_every,) = struct.unpack_from(">H", data, position + 4)
            elif marker in _SOF_SEQUENTIAL or marker in _SOF_OTHER:
                frame = position
            elif marker == _SOS:
                return _layout(data, frame, position, length, restart_every)
            position += 2 + length
    except (IndexError, struct.error):
        return None


def _layout(
    data: bytes, frame: int, scan: int, scan_header: int, restart_every: int
) -> Layout | None:
    if not frame:
        return None
    bits, height, width, components = struct.unpack_from(">BHHB", data, frame + 4)
    if bits != 8 or not width or not height or not 1 <= components <= 4:
        return None
    sampling = [divmod(data[frame + 11 + 3 * k], 16) for k in range(components)]
    if not all(1 <= a <= 4 and 1 <= b <= 4 for a, b in sampling):
        return None
    across, down = (max(factors) for factors in zip(*sampling, strict=True))
    if components == 1:  # a lone component's blocks are never interleaved
        across = down = 1
    return Layout(
        width=width,
        height=height,
        components=components,
        sequential=data[frame + 1] in _SOF_SEQUENTIAL and data[scan + 4] == components,
        unit=(8 * across, 8 * down),
        restart_every=restart_every,
        frame=frame,
        scan=scan + 2 + scan_header,
    )


class Part(NamedTuple):
    """A file that shows a part of an image, and where: in pixels of the whole."""

    data: bytes
    left: int
    top: int
    width: int
    height: int


def cut(data: bytes, layout: Layout, box: IntBox, scale: int) -> Part:
    """A smaller file with the same pixels in `box`.

    Args:
        data, layout: of the whole file.
        box: source pixels.
        scale: 1, 2, 4 or 8, what decoding will divide both sides by.
    """
    whole = Part(data, 0, 0, layout.width, layout.height)
    if not layout.sequential:
        return whole
    every, across = layout.restart_every, layout.units_per_row
    if every and across % every == 0:
        return _keep_runs(whole, layout, box, scale)
    if layout.restart_every:  # runs that do not end with a row: keep it simple
        return whole
    unit = layout.unit[1]
    height = min(layout.height, -(-(box[3] + scale) // unit) * unit)
    if height == layout.height:
        return whole
    header = _resized(data[: layout.scan], layout, layout.width, height)
    return whole._replace(data=header + data[layout.scan :], height=height)


def _resized(header: bytes, layout: Layout, width: int, height: int) -> bytes:
    """The bytes before the scan with another image size in the frame header."""
    at = layout.frame + 5
    return header[:at] + struct.pack(">HH", height, width) + header[at + 4 :]


def _keep_runs(whole: Part, layout: Layout, box: IntBox, scale: int) -> Part:
    """Keeps the runs between restart markers that touch `box`, renumbered."""
    data = whole.data
    run, row = layout.unit[0] * layout.restart_every, layout.unit[1]
    per_row = layout.units_per_row // layout.restart_every
    rows = -(-layout.height // row)
    starts, ends = _runs(data, layout.scan)
    if len(starts) != per_row * rows:
        return whole
    left, right = max(0, box[0] - scale) // run, -(-(box[2] + scale) // run)
    top, bottom = max(0, box[1] - scale) // row, -(-(box[3] + scale) // row)
    right, bottom = min(right, per_row), min(bottom, rows)
    width = min(layout.width, right * run) - left * run
    height = min(layout.height, bottom * row) - top * row
    kept = starts.reshape(rows, per_row)[top:bottom, left:right]
    last = ends.reshape(rows, per_row)[top:bottom, right - 1]
    header = _resized(data[: layout.scan], layout, width, height)
    # Runs of one row come with the markers between them.
    scans = [data[a:b] for a, b in zip(kept[:, 0], last, strict=True)]
    out = np.frombuffer(bytearray(header + _RESTART.join(scans) + _END), np.uint8)
    begins = np.cumsum([len(header), *(len(scan) + 2 for scan in scans[:-1])])
    markers = begins[:, None] + kept - kept[:, :1] - 2
    out[markers.ravel()[1:] + 1] = 0xD0 + np.arange(kept.size - 1) % 8
    return Part(out.tobytes(), left * run, top * row, width, height)


def _runs(data: bytes, scan: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs between restart markers begin and end in the file."""
    codes = np.frombuffer(data, np.uint8, offset=scan)
    markers = np.flatnonzero(codes[:-1] == 0xFF)
    kinds = codes[markers + 1]
    restarts = markers[(kinds & 0xF8) == 0xD0]
    end = markers[kinds == _EOI][-1]
    starts = np.concatenate([[0], restarts + 2]) + scan
    ends = np.concatenate([restarts, [end]]) + scan
    return starts, ends
