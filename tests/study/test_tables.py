"""Runs in the paper's tables: who stands where, and what is computed of them."""

import math

import pytest

from tests.study.run_folders import write_run

T4, T6 = "Table 4, BS=1024", "Table 6, ResNet-50-D"


def test_three_seeds_are_a_mean_with_its_deviation(add_run, view):
    for seed, top1 in enumerate((0.90, 0.92, 0.97)):
        add_run("warmup", seed=seed, top1=top1, top5=0.99)
    row = view().row(T4, "+ LR warmup")
    # Mean 93; squares 9 + 1 + 16 = 26, over 2: 13.
    assert row["Ours, top-1"] == f"93.00 ± {math.sqrt(13):.2f}"
    assert row["Ours, top-5"] == "99.00 ± 0.00"
    assert row["Runs"] == "3"
    assert row["Paper, top-1 / top-5"] == "75.93 / 92.84"


def test_a_gain_has_a_standard_error_where_both_rows_have_two_runs(add_run, view):
    for seed, (low, high) in enumerate([(0.90, 0.94), (0.92, 0.98)]):
        add_run("linear_scaling", seed=seed, top1=low)
        add_run("warmup", seed=seed, top1=high)
    add_run("zero_gamma", top1=0.955)
    shown = view()
    row = shown.row(T4, "+ LR warmup")
    # 96 - 91; variances 8 and 2, over 2 runs each: sqrt(4 + 1).
    assert row["Our gain"] == f"+5.00 ± {math.sqrt(5):.2f}"
    assert (row["Compared with"], row["Paper's gain"]) == ("Linear scaling", "+0.76")
    assert shown.row(T4, "+ Zero γ")["Our gain"] == "-0.50"
    assert shown.row(T4, "Linear scaling")["Our gain"] == ""


def test_mixup_and_distillation_are_compared_with_what_they_stand_on(add_run, view):
    tops = {
        "label_smoothing": 0.8,
        "distill": 0.81,
        "mixup": 0.85,
        "distill_mixup": 0.9,
    }
    for row, top1 in tops.items():
        add_run(row, top1=top1)
    found = {r["Row"]: (r["Compared with"], r["Our gain"]) for r in view().rows(T6)}
    assert found["+ distill w/o mixup"] == ("+ label smoothing", "+1.00")
    assert found["+ mixup w/o distill"] == ("+ label smoothing", "+5.00")
    assert found["+ distill w/ mixup"] == ("+ mixup w/o distill", "+5.00")
    assert found["+ label smoothing"] == ("+ cosine decay", "–")


def test_one_run_serves_every_cell_that_it_is_a_run_of(add_run, view):
    add_run("baseline", top1=0.5)
    add_run("low_precision", top1=0.6)
    shown = view()
    assert shown.report.tables == (1, 2, 3, 4, 5)
    for caption in ("Table 1", "Table 2"):
        assert shown.row(caption, "ResNet-50")["Ours, top-1"] == "50.00"
    assert shown.row("Table 3", "ResNet-50, efficient")["Our gain"] == "+10.00"
    assert shown.row(T4, "+ FP16")["Ours, top-1"] == "60.00"


def test_the_run_that_ends_table_4_stands_in_table_5_too(add_run, view):
    add_run("low_precision", top1=0.75)
    for caption, label in (("Table 4, BS=1024", "+ FP16"), ("Table 5", "ResNet-50")):
        assert view().row(caption, label)["Runs"] == "1"


def test_a_run_without_a_teacher_does_not_stand_for_one_with_it(add_run, view):
    add_run("label_smoothing", top1=0.75)
    rows = {row["Row"]: row["Runs"] for row in view().rows("Table 6, ResNet-50-D")}
    assert [label for label, runs in rows.items() if runs == "1"] == [
        "+ label smoothing"
    ]


def test_runs_on_places365_stand_in_table_7_and_others_do_not(add_run, view):
    add_run("transfer:places365,recipe=efficient", top1=0.55)
    add_run("transfer:places365,recipe=best", top1=0.56)
    add_run("transfer:digits,recipe=best", top1=0.9)
    row = view().row("Table 7, validation", "Best")
    assert row["Ours, top-1"] == "56.00"
    assert (row["Paper's gain"], row["Our gain"]) == ("+0.36", "+1.00")


def test_columns_are_told_apart_by_batch_and_network(add_run, view):
    add_run("warmup,batch=small", top1=0.7)
    add_run("cosine,model=mobilenet", top1=0.6)
    shown = view()
    assert shown.row("Table 4, BS=256", "+ LR warmup")["Ours, top-1"] == "70.00"
    assert shown.row("Table 6, MobileNet", "+ cosine decay")["Ours, top-1"] == "60.00"
    assert [g.caption for g in shown.grids if g.caption.startswith("Table")] == [
        "Table 4, BS=256: accuracy in per cent",
        "Table 6, MobileNet: accuracy in per cent",
    ]


def test_rows_without_a_run_are_not_run(add_run, view):
    add_run("cosine")
    rows = {row["Row"]: row["Ours, top-1"] for row in view().rows(T6)}
    assert rows.pop("+ cosine decay") == "90.00"
    assert set(rows.values()) == {"not run"}
    assert len(rows) == 5


def test_an_unfinished_run_is_shown_and_not_averaged(add_run, view):
    add_run("cosine", top1=0.8)
    add_run("cosine", seed=1, top1=0.1, finished=False)
    add_run("mixup", finished=False)
    shown = view()
    row = shown.row(T6, "+ cosine decay [1]")
    assert (row["Ours, top-1"], row["Runs"]) == ("80.00", "1")
    assert "seed 1 unfinished at step 20 of 40, not counted" in shown.items
    mixup = shown.row(T6, "+ mixup w/o distill")
    assert (mixup["Ours, top-1"], mixup["Runs"]) == ("unfinished at step 20 of 40", "0")


def test_a_changed_field_is_a_row_of_its_own_with_a_footnote(add_run, view):
    add_run("cosine", top1=0.9)
    add_run("cosine", seed=1, top1=0.8, changes={"train.epochs": 10.0})
    shown = view()
    assert shown.row(T6, "+ cosine decay")["Ours, top-1"] == "90.00"
    assert shown.row(T6, "+ cosine decay [1]")["Ours, top-1"] == "80.00"
    assert "train.epochs: 24.0 -> 10.0" in shown.items


def test_a_changed_row_is_compared_with_the_row_changed_alike(add_run, view):
    short = {"train.epochs": 5.0}
    add_run("label_smoothing", top1=0.9)
    add_run("mixup", top1=0.7, changes=short)  # from 40 epochs, not 24
    assert view().row(T6, "+ mixup w/o distill [1]")["Our gain"] == "–"
    add_run("label_smoothing", top1=0.5, changes=short)
    assert view().row(T6, "+ mixup w/o distill [2]")["Our gain"] == "+20.00"


def test_seed_teacher_and_how_a_run_executes_are_no_change(add_run, view):
    add_run("distill", top1=0.8)
    other = {"train.log_every": 7, "train.eval_every": 2.0, "train.save_every": 0.0}
    add_run("distill", seed=1, top1=0.9, changes=other)
    assert view().row(T6, "+ distill w/o mixup")["Runs"] == "2"


def test_a_seed_that_was_run_twice_counts_once(add_run, view, runs):
    add_run("cosine", top1=0.8)
    add_run("cosine", top1=0.9)
    shown = view()
    row = shown.row(T6, "+ cosine decay [1]")
    assert (row["Ours, top-1"], row["Runs"]) == ("80.00", "1")
    again = runs / "run01"
    assert f"seed 0 was run again in {again}, not counted" in shown.items


def test_of_a_seed_that_was_run_twice_the_finished_run_counts(add_run, view):
    add_run("cosine", top1=0.8, finished=False)
    add_run("cosine", top1=0.9)
    row = view().row(T6, "+ cosine decay [1]")
    assert (row["Ours, top-1"], row["Runs"]) == ("90.00", "1")


def test_a_folder_named_twice_is_one_run(add_run, view, runs):
    folder = add_run("cosine")
    assert view(runs, folder, runs / "." / folder.name).report.runs == 1


def test_a_runs_own_folder_is_not_searched(add_run, view):
    folder = add_run("cosine")
    write_run(folder / "copy", "mixup")
    assert view().report.runs == 1


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({"data": "imagenet"}, "imagenet"),
        (
            {"data": "imagenet", "changes": {"data.name": "folder:/a, b"}},
            "folder:/a, b",
        ),
        ({"changes": {"data.train_split": "train[:99]"}}, "digits, train[:99]"),
        ({"changes": {"data.eval_split": "train"}}, "digits, held out train"),
        ({"changes": {"data.image_size": 28}}, "digits, 28 pixels"),
    ],
    ids=["name", "path", "train split", "eval split", "image size"],
)
def test_runs_on_other_data_are_in_other_tables(add_run, view, options, title):
    add_run("cosine", top1=0.8)
    add_run("cosine", seed=1, top1=0.6, **options)
    shown = view()
    grids = [g for g in shown.grids if g.caption.startswith(T6)]
    assert [grid.rows[1][2] for grid in grids] == ["80.00", "60.00"]
    assert [h for h in shown.headings if h.startswith("Data")] == [
        "Data: digits",
        f"Data: {title}",
    ]


def test_inception_stands_beside_the_others_at_its_own_image_size(add_run, view):
    add_run("baseline", data="imagenet", top1=0.7)
    add_run("baseline,model=inception_v3", data="imagenet", top1=0.8)
    rows = view().rows("Table 2")
    assert [row["Ours, top-1"] for row in rows] == ["70.00", "80.00", "not run"]


def test_other_augmentation_on_the_same_data_is_a_change(add_run, view):
    add_run("cosine", changes={"data.color_jitter": "hsb"})
    assert "data.color_jitter: none -> hsb" in view().items


def test_runs_of_no_cell_are_listed_apart(add_run, view):
    add_run("cosine,mode=only", top1=0.7)
    add_run("warmup,mode=without", finished=False)
    add_run("teacher", top1=0.9)
    add_run("cosine,batch=64", top1=0.6)
    shown = view()
    assert shown.report.tables == ()
    found = {row["Run"]: row["Top-1"] for row in shown.rows("4 settings of no table")}
    assert found == {
        "ablation-cosine-only": "70.00",
        "ablation-warmup-without": "unfinished at step 20 of 40",
        "ablation-teacher": "90.00",
        "ablation-cosine": "60.00",
    }


def test_the_papers_contradictions_stand_below_its_table(add_run, view):
    add_run("cosine")
    assert any(
        "78.31 here and 78.34 in tables 8 and 9" in item for item in view().items
    )
