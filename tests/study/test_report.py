"""`python -m rtj.report`: its files, what it survives, and what may not get in."""

import builtins
import html.parser
import json
import re

import numpy as np
import pytest

from rtj.errors import DataError
from rtj.report import run
from rtj.study.build import make_report, write_report
from rtj.study.document import Grid, Heading, Text
from rtj.study.to_html import to_html
from rtj.study.to_markdown import escape, to_markdown

EVIL = "<script>alert('x')</script> a|b"
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(html.parser.HTMLParser):
    """Fails on a tag that is closed out of order; keeps tags and attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def study(add_run, runs):
    """Two rows of 3 seeds with predictions."""
    label = np.arange(20) % 4
    for seed in range(3):
        for row, top1 in (("efficient", 0.8), ("cosine", 0.85)):
            guess = np.where(np.arange(20) < 3 + seed, (label + 1) % 4, label)
            answers = {"index": np.arange(20), "label": label, "prediction": guess}
            add_run(row, seed=seed, top1=top1 + seed / 100, predictions=answers)
    return runs


@pytest.mark.slow
def test_the_tool_writes_a_page_a_text_and_pictures(study, tmp_path, capsys):
    out = tmp_path / "new" / "report"
    assert run([str(study), f"--out={out}", "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == {"out": str(out), "runs": 6, "unreadable": 0, "tables": [5, 6]}
    text = (out / "report.md").read_text()
    assert "| Efficient | 77.16 / 93.52 | 81.00 ± 1.00 |" in text
    pictures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(pictures) == 2
    for picture in pictures:
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    left = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert left == {"report.md", "report.html", *pictures}


def test_a_report_replaces_an_older_one(study, tmp_path):
    for name in ("report.html", "report.md"):
        (tmp_path / name).write_text("old")
    write_report([study], tmp_path)
    assert "old" not in {
        (tmp_path / n).read_text() for n in ("report.html", "report.md")
    }


@pytest.mark.slow
def test_two_reports_of_one_study_are_the_same(study, tmp_path):
    for name in ("a", "b"):
        write_report([study], tmp_path / name)
    for file in ("report.html", "report.md"):
        assert (tmp_path / "a" / file).read_text() == (
            tmp_path / "b" / file
        ).read_text()


def test_the_header_says_where_the_runs_were_computed(study):
    text = to_markdown(make_report([study]).document)
    for fact in (
        "- **Runs:** 6 finished",
        "- **Seeds:** 0, 1, 2",
        "- **Hardware:** 2 x NVIDIA H100 (gpu)",
        "- **Commit of rtj:** abc1234",
        "- **Versions:** rtj 0.1.0, jax 0.10.2, python 3.11.7",
        "- **Held-out images:** 1,000",
        "- **Batch:** 128",
        "- **Epochs:** 4",
    ):
        assert fact in text.splitlines()


def test_only_imagenet_is_compared_by_accuracy(study, add_run):
    assert "only the signs" in to_markdown(make_report([study]).document)
    folder = add_run("cosine", data="imagenet")
    assert "only the signs" not in to_markdown(make_report([folder]).document)


def test_the_page_is_balanced_and_loads_nothing(study):
    text = to_html(make_report([study]).document)
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "img", "base"} & {
        tag for tag, _ in page.tags
    }
    policy = {a.get("http-equiv"): a.get("content") for a in page.all("meta")}
    assert policy["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'unsafe-inline'"
    )
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "xlink:href", "src", "action"):
                assert (value or "").startswith("#")
    assert re.findall(r"url\((?!#)|@import|https?:", text) == []


def test_every_table_is_captioned_and_scrolls_by_itself(study):
    text = to_html(make_report([study]).document)
    page = Page(text)
    tables = len(page.all("table"))
    assert tables == 4
    assert len(page.all("caption")) == tables
    scrolls = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert [a["tabindex"] for a in scrolls] == ["0"] * tables
    assert {a.get("scope") for a in page.all("th")} == {"row", "col"}
    assert len(page.all("h1")) == 1
    assert len(page.all("svg")) == 6  # three panels a table
    assert page.all("html")[0]["lang"] == "en"


def test_no_two_elements_share_an_id_and_references_hold(study, add_run):
    add_run("linear_scaling")  # a second figure
    page = Page(to_html(make_report([study]).document))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    used = {a["xlink:href"] for _, a in page.tags if "xlink:href" in a}
    clips = {a["clip-path"] for _, a in page.tags if "clip-path" in a}
    assert used and used <= {f"#{name}" for name in ids}
    assert clips and clips <= {f"url(#{name})" for name in ids}


def test_figures_take_the_pages_text_colour(study):
    text = to_html(make_report([study]).document)
    svg = text[text.index("<svg") : text.rindex("</svg>")]
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg))
    assert colours == {"none", "currentColor", "#3b82c4", "#e07b39"}


def test_names_of_runs_classes_folders_and_devices_are_escaped(runs, add_run, tmp_path):
    names = tmp_path / "images" / "train"
    for name in (EVIL.replace("/", "⁄"), "b&b"):
        (names / name).mkdir(parents=True)
    data = f"folder:{tmp_path / 'images'}"
    answers = {"index": [0, 1], "label": [0, 1], "prediction": [1, 1]}
    folder = add_run("cosine", data=data, predictions=answers, changes={"name": EVIL})
    start = {"steps_per_epoch": 10, "total_steps": 40, "device_kind": f"<i>{EVIL}"}
    (folder / "starts.jsonl").write_text(json.dumps(start) + "\n")
    report = make_report([runs, tmp_path / "<b>none"])
    page, text = to_html(report.document), to_markdown(report.document)
    Page(page)
    for written in (page, text):
        assert "<script" not in written
        assert "<b>" not in written
        assert "<i>" not in written
        assert "&lt;script&gt;" in written
    assert "a\\|b" in text
    assert "b&amp;b" in page


def test_markdown_cells_stay_in_their_cells():
    grid = Grid("c|d", ("Row", "x"), (("a|b\nc", "`*[x](y)*`"),), (False, True))
    lines = to_markdown([grid]).splitlines()
    assert lines == [
        r"**c\|d**",
        "",
        "| Row | x |",
        "| --- | ---: |",
        r"| a\|b c | \`\*\[x\](y)\*\` |",
    ]
    assert escape("label_smoothing_form") == "label_smoothing_form"
    assert to_markdown([Text("1. # + x")]) == "1\\. # + x\n"
    assert to_markdown([Heading(2, "a\n# b")]) == "## a # b\n"


def test_folders_that_cannot_be_read_are_named_and_the_rest_is_shown(
    study, add_run, tmp_path, capsys
):
    torn = add_run("mixup", finished=False)
    with (torn / "metrics.jsonl").open("a") as file:
        file.write('{"step": 25, "ki')
    damaged = add_run("label_smoothing")
    (damaged / "metrics.jsonl").write_text("{}\n{}\n")
    unreadable = add_run("label_smoothing", seed=1)
    (unreadable / "config.json").write_text("[")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("no run")
    missing = tmp_path / "missing"
    folders = [study, tmp_path / "foreign", missing]
    assert run([*map(str, folders), f"--out={tmp_path / 'r'}", "--json"]) == 0
    shown = capsys.readouterr()
    last = json.loads(shown.out.splitlines()[-1])
    assert (last["runs"], last["unreadable"]) == (7, 4)
    text = (tmp_path / "r" / "report.md").read_text()
    assert (
        "| + mixup w/o distill | 79.15 / 94.58 | unfinished at step 20 of 40 |" in text
    )
    assert "| + label smoothing | 78.31 / 94.09 | not run |" in text
    problems = text[text.index("## Folders that could not be read") :].splitlines()[2:]
    wanted = (damaged, unreadable, tmp_path / "foreign", missing)
    assert len(problems) == len(wanted)
    for folder, problem in zip(wanted, problems, strict=True):
        assert str(folder) in problem
        assert str(folder) in shown.err
    Page((tmp_path / "r" / "report.html").read_text())


def test_values_that_are_not_finite_leave_gaps_in_the_curves(add_run, runs):
    folder = add_run("cosine")
    path = folder / "metrics.jsonl"
    path.write_text(re.sub(r'"loss": [0-9.]+', '"loss": "nan"', path.read_text()))
    Page(to_html(make_report([runs]).document))


def test_a_run_without_metrics_has_a_row_and_no_curves(add_run, view, runs):
    folder = add_run("cosine", finished=False)
    (folder / "metrics.jsonl").unlink()
    row = view().row("Table 6, ResNet-50-D", "+ cosine decay")
    assert row["Ours, top-1"] == "unfinished at step 0 of 40"
    assert "<svg" not in to_html(make_report([runs]).document)


def test_without_any_run_nothing_is_written(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    out = tmp_path / "r"
    assert run([str(tmp_path / "empty"), f"--out={out}"]) == DataError.exit_code == 5
    assert str(tmp_path / "empty") in capsys.readouterr().err
    assert not out.exists()


def test_an_out_that_cannot_be_a_folder_is_exit_2_and_named(study, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert run([str(study), f"--out={tmp_path / 'file'}"]) == 2
    assert f"--out={tmp_path / 'file'}" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_without_matplotlib_the_extra_is_named(study, tmp_path, monkeypatch, capsys):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert run([str(study), f"--out={tmp_path / 'r'}"]) == 2
    assert "rtj[plot]" in capsys.readouterr().err


def test_flags_that_are_missing_are_exit_2(capsys):
    assert run(["runs"]) == 2
    assert "--out" in capsys.readouterr().err
