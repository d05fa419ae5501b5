"""The paper's tables against a transcription of their own."""

import pytest

from rtj.study.cells import cell_config, paper_config
from rtj.study.paper import TABLES, table

# Top-1 and top-5 of every column, typed from the paper row by row.
ACCURACIES = {
    1: """
        75.3 92.2
        77.8 -
        76.71 93.38
        78.90 94.51
        77.42 93.66
        79.29 94.63""",
    2: """
        75.87 92.70
        77.32 93.43
        69.03 88.71""",
    3: """
        75.87 92.70
        76.21 92.97
        77.32 93.43
        77.50 93.60
        69.03 88.71
        71.90 90.47""",
    4: """
        75.87 92.70 75.17 92.54
        76.03 92.81 75.93 92.84
        76.19 93.03 76.37 92.96
        76.16 92.97 76.03 92.86
        76.15 93.09 76.21 92.97""",
    5: """
        76.21 92.97
        76.66 93.28
        76.87 93.48
        77.16 93.52""",
    6: """
        77.16 93.52 77.50 93.60 71.90 90.53
        77.91 93.81 78.19 94.06 72.83 91.00
        78.31 94.09 78.40 94.13 72.93 91.14
        78.67 94.36 78.26 94.01 71.97 90.89
        79.15 94.58 78.77 94.39 73.28 91.30
        79.29 94.63 78.34 94.16 72.51 91.02""",
    7: """
        56.34 86.87 57.18 87.28
        56.70 87.33 57.63 87.82""",
    8: """
        76.14 77.54
        77.16 78.30
        77.91 79.23
        78.34 80.71
        78.67 80.96
        79.16 81.10
        79.29 81.33""",
    9: """
        76.14 78.08 37.05
        77.16 78.88 38.88
        77.91 79.25 39.33
        78.34 78.64 38.75
        78.67 78.97 38.90
        79.16 78.47 37.99
        79.29 78.72 38.40""",
}
CELLS = [
    pytest.param(cell.argument, id=f"table{t.number}-{row.key}-{column}")
    for t in TABLES
    for row in t.rows
    for column, cell in zip(t.columns, row.cells, strict=True)
    if cell.argument
]


@pytest.mark.parametrize("number", ACCURACIES)
def test_every_number_is_the_papers(number):
    wanted = [
        [None if word == "-" else float(word) for word in line.split()]
        for line in ACCURACIES[number].strip().splitlines()
    ]
    data = table(number)
    assert data.number == number
    found = [
        [cell.paper[metric] for cell in row.cells for metric in data.metrics]
        for row in data.rows
    ]
    assert found == wanted


def test_what_only_the_paper_has_is_beside_its_row():
    def column(number):
        return [row.extras for row in table(number).rows]

    flops = ["3.9G", "4.2G", "3.9G", "4.3G", "4.3G", "4.3G"]
    assert column(1) == [(text,) for text in flops]
    times = ["13.3 min", "4.4 min", "19.8 min", "8 min", "6.2 min", "3.7 min"]
    assert column(3) == [(text,) for text in times]
    assert column(2)[1] == ("78.8 / 94.4",)
    assert column(5) == [("25M", flops) for flops in ("3.8G", "4.1G", "4.3G", "4.3G")]
    for data in TABLES:
        assert {len(row.extras) for row in data.rows} == {len(data.extras)}


@pytest.mark.parametrize(
    ("number", "key", "column", "gain"),
    [
        (1, "tricks", "", 3.99),  # the abstract: 75.3 to 79.29
        (3, "mobilenet_efficient", "", 2.87),
        (4, "warmup", "BS=1024", 0.76),
        (4, "zero_gamma", "BS=1024", 0.44),
        (4, "no_bias_decay", "BS=1024", -0.34),
        (4, "low_precision", "BS=256", -0.01),
        (5, "resnet50b", "", 0.45),
        (5, "resnet50d", "", 0.29),
        (6, "cosine", "ResNet-50-D", 0.75),
        (6, "label_smoothing", "ResNet-50-D", 0.4),
        (6, "distill", "Inception-V3", -0.14),
        (6, "mixup", "ResNet-50-D", 0.84),  # over label smoothing, not distillation
        (6, "distill_mixup", "MobileNet", -0.77),
        (7, "best", "test", 0.45),
    ],
)
def test_a_row_gains_over_the_row_it_stands_on(number, key, column, gain):
    metric = table(number).metrics[0]
    assert table(number).difference(key, column, metric) == pytest.approx(gain)


def test_transfer_gains_are_of_the_tasks_own_metric():
    assert table(8).difference("cosine", metric="mAP") == pytest.approx(0.93)
    assert table(9).difference("smooth", metric="mIoU") == pytest.approx(-0.58)
    assert table(9).difference("mixup", metric="mIoU") == pytest.approx(-0.76)


def test_a_row_that_stands_on_none_or_a_missing_number_has_no_gain():
    with pytest.raises(ValueError, match="stands on no row"):
        table(4).difference("linear_scaling", "BS=256")
    with pytest.raises(ValueError, match="stands on no row"):
        table(1).difference("resnext50")


def test_the_papers_contradictions_are_noted_at_the_tables_they_are_in():
    numbers = {3: ("90.47", "90.53"), 5: ("3.9G", "3.8G", "76.66", "76.14")}
    numbers |= {6: ("90.47", "90.53", "78.34", "79.16"), 1: ("3.9G", "3.8G")}
    numbers |= {8: ("76.14", "76.66", "78.31", "79.15"), 9: ("78.31", "79.15")}
    for number, wanted in numbers.items():
        notes = " ".join(table(number).notes)
        assert [text for text in wanted if text not in notes] == [], number


@pytest.mark.parametrize("argument", CELLS)
def test_every_argument_is_a_config(argument):
    file, _, of_file = argument.rpartition(":")
    row = of_file.split("=")[-1] if file else argument.split(",")[0]
    name = f"{file or 'ablation'}-{row}"
    tasks = ("detection", "segmentation")
    for data in ("scenes", "folder:/a, b") if file in tasks else ("imagenet", "digits"):
        assert cell_config(argument, data).name == name
    assert paper_config(argument).name == name


def test_arguments_have_the_papers_networks_and_batches():
    def found(number, key, column=""):
        argument = table(number).cell(key, column).argument
        assert argument is not None
        config = cell_config(argument, "imagenet")
        return config.model.name, config.train.batch_size, config.tricks.precision

    assert found(1, "tricks") == ("resnet50d", 1024, "bf16")
    assert found(1, "seresnext50") == ("seresnext50_32x4d", 256, "fp32")
    assert found(2, "mobilenet") == ("mobilenet", 256, "fp32")
    assert found(3, "resnet50_efficient") == ("resnet50", 1024, "bf16")
    assert found(3, "inception_v3_efficient") == ("inception_v3", 1024, "bf16")
    assert found(4, "zero_gamma", "BS=256") == ("resnet50", 256, "fp32")
    assert found(4, "zero_gamma", "BS=1024") == ("resnet50", 1024, "fp32")
    assert found(5, "resnet50c") == ("resnet50c", 1024, "bf16")
    assert found(6, "distill_mixup", "MobileNet") == ("mobilenet", 1024, "bf16")
    assert found(6, "cosine", "ResNet-50-D") == ("resnet50d", 1024, "bf16")


def test_rows_of_transfer_are_on_the_papers_data_and_start_from_weights():
    for number, task, data in ((8, "detection", "voc"), (9, "segmentation", "ade20k")):
        assert table(number).task == task
        for row in table(number).rows:
            config = paper_config(str(row.cells[0].argument))
            assert (config.task, config.data.name) == (task, data)
            assert config.model.name == f"resnet50{'b' if 'b_' in row.key else 'd'}"
            assert config.train.weights != ""
