"""Tables 8 and 9: detection and segmentation beside the paper's rows."""

import math

import pytest

import rtj
from rtj.errors import DataError
from rtj.study.to_html import to_html
from rtj.study.to_markdown import to_markdown
from tests.study.run_folders import write_run

T8, T9 = "Table 8: mAP in per cent", "Table 9: pixAcc and mIoU in per cent"


@pytest.fixture
def segment(add_run):
    """Adds a run of a row of table 9, mIoU in per cent."""

    def add(row, overlap, *, data="ade20k", weights="timm:resnet50d", **options):
        given = f",weights={weights}" if weights else ""
        scores = {"pixel_accuracy": 0.8, "mean_iou": overlap / 100}
        argument = f"segmentation:{data},row={row}{given}"
        return add_run(argument, scores=scores, **options)

    return add


@pytest.fixture
def detect(add_run):
    """Adds a run of a row of table 8, mAP in per cent."""

    def add(row, score, *, data="voc", weights="timm:resnet50d", **options):
        given = f",weights={weights}" if weights else ""
        argument = f"detection:{data},row={row}{given}"
        return add_run(argument, scores={"map": score / 100}, **options)

    return add


def test_table_9_has_both_metrics_and_gains_of_mean_iou(segment, view):
    segment("d_efficient", 38.0)
    for seed, overlap in enumerate((39.0, 40.0)):
        segment("cosine", overlap, seed=seed)
    shown = view()
    assert shown.report.tables == (9,)
    row = shown.row(T9, "+ cosine")
    assert row["Paper, ImageNet top-1"] == "77.91"
    assert row["Paper, pixAcc / mIoU"] == "79.25 / 39.33"
    assert row["Ours, pixAcc"] == "80.00 ± 0.00"
    assert row["Ours, mIoU"] == f"39.50 ± {math.sqrt(0.5):.2f}"
    assert (row["Runs"], row["Compared with"]) == ("2", "D-efficient")
    assert (row["Paper's gain"], row["Our gain"]) == ("+0.45", "+1.50")
    assert "Ours, classifier's top-1" not in row
    assert shown.row(T9, "+ mixup w/ distill")["Ours, pixAcc"] == "not run"


def test_table_8_has_map_and_gains_of_it(detect, view):
    detect("b_standard", 77.0, weights="timm:resnet50b")
    detect("d_efficient", 78.25)
    shown = view()
    assert shown.report.tables == (8,)
    row = shown.row(T8, "D-efficient")
    assert (row["Paper, mAP"], row["Ours, mAP"], row["Runs"]) == ("78.30", "78.25", "1")
    assert (row["Paper's gain"], row["Our gain"]) == ("+0.76", "+1.25")
    assert [name for name in row if "top-5" in name] == []


def test_a_row_is_known_by_its_name_as_rows_differ_in_weights_alone(segment, view):
    segment("smooth", 38.0, weights="weights/a.pth")
    segment("smooth", 39.0, weights="weights/b.pth", seed=1)
    segment("distill", 40.0, weights="weights/a.pth")
    rows = {row["Row"]: row["Runs"] for row in view().rows(T9)}
    assert {label: runs for label, runs in rows.items() if runs} == {
        "+ smooth": "2",
        "+ distill w/o mixup": "1",
    }


def test_random_weights_are_a_change_and_compared_with_random_weights(segment, view):
    segment("cosine", 39.0)
    segment("cosine", 20.0, weights="")
    segment("d_efficient", 18.5, weights="")
    shown = view()
    assert "train.weights: the row's -> random" in shown.items
    assert shown.row(T9, "+ cosine")["Our gain"] == "–"
    assert shown.row(T9, "+ cosine [1]")["Our gain"] == "+1.50"


def test_runs_that_name_no_row_are_in_no_table_and_told_apart_by_weights(add_run, view):
    scores = {"pixel_accuracy": 0.75, "mean_iou": 0.4}
    for weights in ("a.pth", "b.pth"):
        add_run(f"segmentation:ade20k,weights={weights}", scores=scores)
    shown = view()
    assert shown.report.tables == ()
    for row in shown.rows("2 settings of no table"):
        assert (row["pixAcc"], row["mIoU"]) == ("75.00", "40.00")
        assert not {"Top-1", "Top-5"} & row.keys()


def test_the_classifiers_own_top1_stands_beside_the_papers(segment, view, tmp_path):
    for seed, top1 in enumerate((0.77, 0.79)):
        folder = tmp_path / f"cosine-seed{seed}"
        write_run(folder, "cosine", data="imagenet", top1=top1, seed=seed)
        segment("cosine", 39.0, weights=str(folder), seed=seed)
    write_run(tmp_path / "digits", "cosine", data="digits", top1=0.98)
    segment("smooth", 38.0, weights=str(tmp_path / "digits"))
    write_run(tmp_path / "going", "mixup", data="imagenet", finished=False)
    segment("mixup", 38.0, weights=str(tmp_path / "going"))
    segment("distill", 38.0, weights=str(tmp_path / "gone"))
    segment("distill", 38.0, weights=str(tmp_path / "digits"), seed=1)
    (tmp_path / "hub").mkdir()
    segment("distill_mixup", 38.0, weights=str(tmp_path / "hub"))
    rows = view().rows(T9)
    ours = {row["Row"]: row["Ours, classifier's top-1"] for row in rows}
    assert {label: text for label, text in ours.items() if text} == {
        "+ cosine": f"78.00 ± {math.sqrt(2):.2f}",
        "+ smooth": "98.00 (digits)",
    }


def test_tasks_on_one_data_set_are_apart_and_neither_is_compared_by_score(
    segment, detect, view
):
    segment("cosine", 60.0, data="scenes", weights="runs/cosine")
    detect("cosine", 70.0, data="scenes", weights="runs/cosine")
    shown = view()
    assert [h for h in shown.headings if h.startswith("Data")] == [
        "Data: scenes, segmentation",
        "Data: scenes, detection",
    ]
    assert shown.report.tables == (8, 9)
    assert shown.row(T8, "+ cosine")["Ours, mAP"] == "70.00"
    text = to_markdown(shown.report.document)
    assert "resnet14d stands for resnet50d" in text
    assert "The paper's columns are of ADE20K, and these runs are not" in text
    assert "The paper's columns are of Pascal VOC, and these runs are not" in text
    assert "A gain is of mIoU or mAP" in text


def test_on_the_papers_data_scores_are_compared(segment, detect, view):
    segment("cosine", 39.0)
    detect("cosine", 79.0)
    assert "these runs are not" not in to_markdown(view().report.document)


def test_a_batch_of_ones_own_is_no_row_and_other_fields_are_a_footnote(segment, view):
    segment("cosine", 39.0, changes={"train.epochs": 30.0})
    segment("cosine", 38.0, changes={"train.batch_size": 8}, seed=1)
    shown = view()
    assert "train.epochs: 120.0 -> 30.0" in shown.items
    assert shown.row(T9, "+ cosine [1]")["Runs"] == "1"
    assert len(shown.rows("1 setting of no table")) == 1


def test_curves_are_of_the_tasks_metric_and_say_nothing_of_targets(segment, view):
    segment("mixup", 39.0)
    page = to_html(view().report.document)
    assert "Held-out mIoU, %" in page
    assert "own targets" not in page


def test_an_unfinished_run_says_how_far_it_is(detect, view):
    detect("cosine", 79.0, finished=False)
    row = view().row(T8, "+ cosine")
    assert (row["Ours, mAP"], row["Runs"]) == ("unfinished at step 20 of 40", "0")


@pytest.mark.parametrize(
    ("argument", "scores", "message"),
    [
        ("segmentation:scenes", {"mean_iou": 0.4}, "pixel_accuracy=None"),
        ("segmentation:scenes", {"pixel_accuracy": 0.4}, "mean_iou=None"),
        ("detection:scenes", {"top1": 0.4, "top5": 0.5}, "map=None"),
    ],
)
def test_a_result_must_have_its_tasks_scores(tmp_path, argument, scores, message):
    folder = write_run(tmp_path / "run", argument, scores=scores)
    with pytest.raises(DataError, match=f"result.json is damaged: {message}"):
        rtj.load_run(folder)


def test_predictions_are_of_classifiers_only(tmp_path):
    scores = {"map": 0.5}
    folder = write_run(tmp_path / "run", "detection:scenes", scores=scores)
    (folder / "predictions.npz").write_text("boxes of some other form")
    assert rtj.load_run(folder).predictions is None
