"""Run folders made to hurt: texts that would be code, files that would be bombs."""

import io
import json
import os
import zipfile
from typing import Any

import numpy as np
import pytest

from rtj.report import run
from rtj.study.build import make_report, write_report
from rtj.study.document import Bar, Facts, Grid, Heading, Items, Panel, Picture, Text
from rtj.study.figures import Curve, learning_curves
from rtj.study.metrics import METRICS
from rtj.study.to_html import to_html
from rtj.study.to_markdown import to_markdown
from tests.study.test_report import Page

TEXTS = (
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></svg><script>alert(1)</script>",
    "<svg/onload=alert(1)>",
    "]]><!-- &lt; &#60;script&#62; -->",
    "javascript:alert(1)",
    "$title ${body} $$",
)


def document(text):
    """One of each block, with a text in every place that takes one."""
    return [
        Heading(1, text),
        Heading(2, text),
        Text(text),
        Items((text,), "footnotes"),
        Facts(((text, text),)),
        Grid(text, (text, text), ((text, Bar(0.5, text)),), (False, True)),
        Picture(
            "name",
            text,
            (("#3b82c4", False, text),),
            lambda: (Panel(text, "<svg></svg>"),),
            lambda: b"",
        ),
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_of_a_document_becomes_a_tag_or_an_attribute(text):
    plain, page = (Page(to_html(document(said))) for said in ("plain", text))
    for one, other in zip(plain.tags, page.tags, strict=True):
        assert (one[0], [*one[1]]) == (other[0], [*other[1]])
    assert "<script" not in to_markdown(document(text))
    assert "<img" not in to_markdown(document(text))


@pytest.fixture
def no_figures(monkeypatch):
    """Drawing takes two seconds a report."""
    panel = (Panel("x", "<svg></svg>"),)
    monkeypatch.setattr("rtj.study.figures._panels", lambda *_: panel)
    monkeypatch.setattr("rtj.study.figures._png", lambda *_: b"")


@pytest.mark.usefixtures("no_figures")
def test_what_the_files_of_a_run_say_is_text(runs, add_run, tmp_path):
    answers = {"index": [0, 1], "label": [0, 1], "prediction": [1, 1]}
    lengths = {"steps_per_epoch": 10, "total_steps": 40}
    said = ("device_kind", "git_commit", "platform", "host", "time")
    pages = []
    for text in ("plain", " ".join(TEXTS)):
        folder = add_run("cosine", predictions=answers, changes={"name": text})
        facts = dict.fromkeys(said, text) | {"versions": {text: text}}
        (folder / "starts.jsonl").write_text(json.dumps(lengths | facts) + "\n")
        write_report([folder], tmp_path / "out")
        pages.append(Page((tmp_path / "out" / "report.html").read_text()))
        written = (tmp_path / "out" / "report.md").read_text()
        assert "<script" not in written and "<img" not in written
    for one, other in zip(pages[0].tags, pages[1].tags, strict=True):
        assert (one[0], [*one[1]]) == (other[0], [*other[1]])


def test_names_in_a_figure_are_no_formulas_and_no_tags():
    curves = [Curve(text, ()) for text in (*TEXTS, r"$\frac$", "$x$", "_hidden")]
    drawn = learning_curves("name", r"$\frac$ <b>", curves, METRICS["top1"])
    assert drawn.png().startswith(b"\x89PNG")
    for panel in drawn.panels():
        assert "script" not in panel.svg and "onload" not in panel.svg


@pytest.mark.usefixtures("no_figures")
def test_a_folder_whose_name_is_no_text_is_reported(runs, add_run, tmp_path, capsys):
    folder = add_run("cosine")
    os.rename(folder, os.fsencode(runs) + b"/run\xff")
    gone = os.fsdecode(b"gone\xfd")
    bad = runs / os.fsdecode(b"bad\xfe")
    bad.mkdir()
    (bad / "config.json").write_text("[")
    assert run([str(runs), gone, f"--out={tmp_path / 'out'}", "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["runs"] == 1 and last["unreadable"] == 2
    assert "gone?" in (tmp_path / "out" / "report.html").read_text()


def huge_header():
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<i4", "fortran_order": False, "shape": (2**60,)}
    )
    return buffer.getvalue()


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("kind", ["bomb", "header", "pickle", "encrypted", "damaged"])
def test_predictions_that_are_none_are_named_and_take_no_memory(
    add_run, kind, monkeypatch
):
    folder = add_run("cosine")
    other = add_run("efficient")
    path = folder / "predictions.npz"
    whole: dict[str, Any] = dict.fromkeys(("index", "label"), np.zeros(2, np.int32))
    if kind == "bomb":
        monkeypatch.setattr("rtj.study.load._MAX_BYTES", 2**20)
        np.savez_compressed(path, prediction=np.zeros(2**22, np.int32), **whole)
    elif kind == "pickle":
        np.savez(path, prediction=np.array([print, print], object), **whole)
    else:
        np.savez_compressed(path, prediction=np.zeros(2, np.int32), **whole)
    if kind == "header":
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("index", "label", "prediction"):
                archive.writestr(f"{name}.npy", huge_header())
    elif kind in ("encrypted", "damaged"):
        data = bytearray(path.read_bytes())
        at = data.index(b"PK\x01\x02") + (8 if kind == "encrypted" else 16)
        data[at] ^= 1 if kind == "encrypted" else 0xFF
        path.write_bytes(data)
    report = make_report([folder, other])
    assert report.runs == 1
    (entry,) = report.unreadable
    assert "predictions.npz" in entry.problem
