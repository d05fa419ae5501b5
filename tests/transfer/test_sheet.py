"""`python -m rtj.transfer.sheet`: one picture of what runs see."""

import pytest
from PIL import Image

from rtj.transfer import sheet
from tests.transfer.folders import BROKEN, HELD_OUT
from tests.transfer.runs import TASKS

TOGETHER = "transfer runs"


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_held_out_images_are_drawn_but_those_that_cannot_be_read(task, folder_run):
    pictures = sheet.held_out_pictures(folder_run(task).workdir, len(HELD_OUT), 0.5)
    sizes = [size for name, size in HELD_OUT.items() if name not in BROKEN]
    assert len(pictures) == len(sizes)
    for picture, (height, width) in zip(pictures, sizes, strict=True):
        factor = picture.width // width
        assert picture.size == (factor * width, factor * height)


@pytest.mark.slow
def test_runs_of_both_tasks_are_rows_of_one_sheet(folder_run, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    workdirs = [str(folder_run(task).workdir) for task in TASKS]
    assert sheet.run([*workdirs, "--count=2", f"--out={out}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    cells = [sheet.held_out_pictures(folder_run(t).workdir, 2, 0.5) for t in TASKS]
    width, height = Image.open(out).size
    assert width > 2 * max(picture.width for row in cells for picture in row)
    assert height > 2 * max(picture.height for row in cells for picture in row)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [(["nowhere"], 6, "holds no checkpoint"), (["nowhere", "--count=0"], 2, "--count")],
)
def test_what_cannot_be_is_one_clear_error(flags, code, message, capsys):
    assert sheet.run(flags) == code
    assert message in capsys.readouterr().err
