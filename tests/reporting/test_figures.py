import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from carlt.reporting.classes import mean_accuracy
from carlt.reporting.figures import Figure, confusion, drawings, sensitivity, style, training
from carlt.reporting.figures.calibration import _bins
from carlt.reporting.figures.classes import binned, sorted_accuracy
from carlt.reporting.groups import DataSet, group_by_data_set
from carlt.reporting.published import Published
from carlt.reporting.summary import COLUMNS
from carlt.runs.reading import read_confusion, read_runs
from carlt.runs.record import write_confusion, write_per_class
from carlt.runs.text import shortened


def found(folder: Path) -> DataSet:
    (data,) = group_by_data_set(read_runs([folder])[0])
    return data


def drawn(data: DataSet) -> dict[str, Figure | None]:
    return {name: draw() for name, draw in drawings(data, data.baseline(), "d0").items()}


def one(data: DataSet, name: str) -> Figure:
    figure = drawings(data, data.baseline(), "d0")[name]()
    assert figure is not None
    return figure


@pytest.mark.parametrize("classes", [1, pytest.param(12, marks=pytest.mark.slow), 1000])
def test_any_number_of_classes_can_be_drawn(classes: int, make_run, tmp_path: Path) -> None:
    make_run("1", classes=classes)
    make_run("2", reg="car", classes=classes, accuracy=0.8)
    figures = drawn(found(tmp_path))
    assert list(figures)[4:] == [
        "worst class in training and on test", "class frequency", "classes from best to worst", "confusion",
        "training curves", "CAR", "the bound", "reliability",
        *(f"pictures of the {k} of reg={reg}" for reg in ("none", "car") for k in ("worst classes", "confused pairs")),
    ]  # fmt: skip
    for name, figure in figures.items():
        if name.startswith("pictures"):  # these records have none
            assert figure is None
            continue
        assert figure is not None
        ElementTree.fromstring(figure.svg)
        assert len(figure.svg) < 300_000
        assert figure.caption.endswith((".", ". "))
        assert figure.alt


def test_names_are_drawn_as_they_are(make_run, tmp_path: Path) -> None:
    names = ["<b>&", "$x_1$ costs $2", "猫"]
    make_run("1", class_names=names)
    make_run("2", class_names=names, reg="$a$ & <i>")
    figure = one(found(tmp_path), "confusion")
    text = " ".join(ElementTree.fromstring(figure.svg).itertext())
    assert all(name in text for name in (*names, "reg=$a$ & <i>"))
    assert [row[0].rsplit(" ", 1)[0] for row in figure.listings[0].rows] == ["猫", "$x_1$ costs $2"]


def test_plots_take_the_page_s_colour_and_keep_their_ids_to_themselves(make_run, tmp_path: Path) -> None:
    make_run("1")
    make_run("2", reg="car")
    figures = [one(found(tmp_path), name) for name in ("class frequency", "CAR", "reliability")]
    ids = [identity for figure in figures for identity in re.findall(r'\bid="([^"]*)"', figure.svg)]
    assert len(ids) == len(set(ids))
    for figure in figures:
        assert style.INK not in figure.svg
        assert "currentColor" in figure.svg
        assert "http" not in figure.svg.replace('xmlns:xlink="http://www.w3.org/1999/xlink"', "")


def test_numbers_that_are_read_keep_their_digits(make_run, tmp_path: Path) -> None:
    for k, weight in enumerate((0.00015, 0.0005)):
        make_run(str(k), reg="car", weight=weight)
    figure = one(found(tmp_path), "sensitivity to reg.weight")
    text = " ".join(ElementTree.fromstring(figure.svg).itertext())
    assert "0.00015" in text
    assert "0.0005" in text


def test_of_many_groups_the_best_are_shown_and_the_rest_is_counted(make_run, tmp_path: Path) -> None:
    make_run("base", accuracy=0.01)
    for k in range(9):
        make_run(f"{k}", reg="car", accuracy=0.1 * k, weight=k)
    data = found(tmp_path)
    shown = style.choose(data.groups, data.baseline())
    assert [group.label for group in shown.groups] == [
        "reg=none",
        *(f"reg=car, reg.weight={k}" for k in (4, 5, 6, 7, 8)),
    ]
    assert "4 left out" in shown.note
    assert all(shown.look(group)["color"] for group in data.groups)  # plots of pairs show the others, too
    drawn = [(look["color"], str(look["ls"])) for _, look in shown.styles()]
    assert len(set(drawn)) == len(drawn) == style.MOST


def test_a_class_is_the_mean_over_the_seeds_that_saw_it(make_run, tmp_path: Path) -> None:
    make_run("1", 0, 1.0)
    second = make_run("2", 1, 0.0)
    rows = (second / "per_class.csv").read_text().splitlines()
    rows[2] = rows[2].rsplit(",", 3)[0] + ",0,0,"  # the second class has no test images here
    (second / "per_class.csv").write_text("\n".join(rows) + "\n")
    counts, accuracy = mean_accuracy(found(tmp_path).groups[0])
    assert counts.tolist() == [200, 20, 2]
    assert accuracy.tolist() == [50, 80, 35]  # of 100, 80, 70 and 0, nothing, 0


def test_a_line_is_the_mean_of_classes_of_similar_frequency() -> None:
    images, accuracy = binned(np.array([1.0, 100.0, 1.21]), np.array([10.0, 60.0, 20.0]))
    assert (images.tolist(), accuracy.tolist()) == (pytest.approx([100, 1.1]), [60, 15])  # in the logarithm of images


def test_confusion_is_ordered_by_frequency(make_run, tmp_path: Path) -> None:
    folder = make_run("1")
    text = (folder / "per_class.csv").read_text().replace(",200,", ",1,")  # the first class is now the rarest
    (folder / "per_class.csv").write_text(text)
    blocks = confusion.shares(found(tmp_path).groups[0])
    # Of the second class 4 in 10 are right, of the third 3, and all else is taken for the first.
    assert blocks.tolist() == [[0.4, 0, 0.6], [0, 0.3, 0.7], [0, 0, 1]]


def test_blocks_keep_every_image(make_run, tmp_path: Path) -> None:
    make_run("1", classes=250)
    make_run("2", 1, classes=250)
    blocks = confusion.shares(found(tmp_path).groups[0])
    assert blocks.shape == (confusion.BLOCKS, confusion.BLOCKS)
    assert blocks.sum(1) == pytest.approx(np.ones(confusion.BLOCKS))


def test_the_most_confused_pairs_are_those_of_a_loop(make_run, tmp_path: Path) -> None:
    make_run("1", classes=30, accuracy=0.7)
    other = make_run("2", 1, classes=30, accuracy=0.3)
    cells = read_confusion(other, 30)  # now no two classes have equally many images
    write_confusion(other, cells.true, cells.predicted, cells.count * (1 + cells.true), 30)
    group = found(tmp_path).groups[0]
    matrix = np.zeros((30, 30))
    for run in group.runs.values():
        for i, j, n in zip(run.confusion.true, run.confusion.predicted, run.confusion.count, strict=True):
            matrix[i, j] += n
    share = matrix / matrix.sum(1, keepdims=True)
    np.fill_diagonal(share, 0)
    expected = np.sort(share.flatten())[::-1][: confusion.PAIRS]
    pairs = confusion._most_confused(group)
    assert [value for *_, value, _ in pairs] == pytest.approx(expected.tolist())
    assert all(
        share[a.class_id, b.class_id] == value and total == matrix[a.class_id].sum() for a, b, value, total in pairs
    )


def test_curves_are_over_the_epochs_that_all_seeds_have(make_run, tmp_path: Path) -> None:
    make_run("1", 0)
    short = make_run("2", 1)
    (short / "metrics.csv").write_text("epoch,train/loss\n1,0.5\n")
    group = found(tmp_path).groups[0]
    epochs, values = training._series(group, "train/loss")
    assert (epochs.tolist(), values.tolist()) == ([2], [[1.5], [0.5]])
    assert training._series(group, "val/worst_class") is None


def test_a_post_hoc_method_has_no_training_and_no_pictures_of_its_own(make_run, tmp_path: Path) -> None:
    make_run("1")
    make_run("2", accuracy=0.8, config={"choices": {"reg": "none", "loss": "ce", "posthoc": "car"}})
    data = found(tmp_path)
    assert one(data, "training curves").alt.endswith("for plain")
    assert not [name for name in drawings(data, data.baseline(), "d0") if "pictures" in name and "posthoc" in name]


def test_long_trainings_are_thinned_to_their_end(make_run, tmp_path: Path) -> None:
    folder = make_run("1")
    (folder / "metrics.csv").write_text("epoch,train/loss\n" + "".join(f"{e},{e}\n" for e in range(1000)))
    epochs, _ = training._series(found(tmp_path).groups[0], "train/loss")
    assert len(epochs) <= training.POINTS + 1
    assert (epochs[0], epochs[-1]) == (1, 1000)


def test_bins_of_several_seeds_are_weighted_by_images(make_run, tmp_path: Path) -> None:
    make_run("1", 0)  # 4 images at 0.2 of which a quarter is right, and 6 at 0.9 of which half are
    other = make_run("2", 1) / "result.json"
    bins = {"images": [12, 0, 2], "confidence": [0.4, None, 0.9], "accuracy": [0.5, None, 1.0]}
    other.write_text(json.dumps(json.loads(other.read_text()) | {"calibration": {"test": bins}}))
    bins = _bins(found(tmp_path).groups[0], "test")
    assert bins["images"].tolist() == [16, 0, 8]
    assert bins["confidence"][[0, 2]].tolist() == pytest.approx([0.35, 0.9])
    assert bins["accuracy"][[0, 2]].tolist() == pytest.approx([7 / 16, 5 / 8])
    assert _bins(found(tmp_path).groups[0], "val") is None


def test_bins_of_another_number_are_left_out(make_run, tmp_path: Path) -> None:
    make_run("1", 0)
    other = make_run("2", 1) / "result.json"
    result = json.loads(other.read_text())
    result["calibration"]["test"] = {key: values[:2] for key, values in result["calibration"]["test"].items()}
    other.write_text(json.dumps(result))
    assert _bins(found(tmp_path).groups[0], "test")["images"].tolist() == [4, 0, 6]


def test_old_records_have_no_reliability_diagram(make_run, tmp_path: Path) -> None:
    make_run("1", calibration=False)
    data = found(tmp_path)
    assert drawings(data, data.baseline(), "d0")["reliability"]() is None


def test_old_records_have_neither_the_bound_nor_a_worst_class_in_training(make_run, tmp_path: Path) -> None:
    later = {column.metric: None for column in COLUMNS if column.metric.startswith("train/")}
    later |= {f"test/{name}": None for name in ("spectral_norm", "weighted_worst_error", "worst_margin_error")}
    make_run("1", metrics={**later, "test/worst_class": None})
    figures = drawn(found(tmp_path))
    assert figures["the bound"] is figures["worst class in training and on test"] is None


def test_the_bound_s_terms_are_means_over_the_seeds(make_run, tmp_path: Path) -> None:
    for seed, norm in enumerate((0.5, 1.5)):
        folder = make_run(str(seed), seed, metrics={"train/spectral_norm": norm, "test/worst_margin_error": 0.25})
        result = json.loads((folder / "result.json").read_text())
        terms = {"nu": None if seed else 0.75, "lambda": 2.0, "first_term": 0.1, "error": 0.5, "remainder": 0.4}
        (folder / "result.json").write_text(json.dumps(result | {"bound": terms}))
    figure = one(found(tmp_path), "the bound")
    norms, of_class = ([dict(zip(part.head, row, strict=True)) for row in part.rows] for part in figure.listings)
    assert norms[0]["norm, train"] == "1.00 ± 0.71"
    assert norms[0]["margin error, test (%)"] == "25.0 ± 0.0"
    assert (of_class[0]["nu"], of_class[0]["remainder (%)"]) == ("0.75", "40.0 ± 0.0")


def test_published_worst_classes_stand_beside_ours(make_run, tmp_path: Path) -> None:
    make_run("1", metrics={"train/worst_class": 0.9, "test/worst_class": 0.125})
    data = found(tmp_path)
    theirs = [
        Published("SAFA", "ViT", {"test/worst_class": "10", "test/accuracy": "≈55.5"}, {}),
        Published("CE", "ResNet", {"test/accuracy": "44.4"}, {}),  # has no worst class
    ]
    plots = drawings(data, data.baseline(), "d0", theirs)
    figure = plots["worst class in training and on test"]()
    assert figure is not None
    assert "worst class, training split 90.0 %, worst class, test split 12.5 %" in figure.alt
    assert "SAFA (ViT), published: worst class, test split 10.0 %, overall, test split 55.5 %" in figure.alt
    assert "ResNet" not in figure.alt
    assert style.COLOURS[0] in figure.svg
    assert "<pattern" not in figure.svg  # hatched with a regularizer alone
    assert "not measured here" in figure.caption


def test_a_sweep_varies_one_parameter_alone(make_run, tmp_path: Path) -> None:
    make_run("0")
    make_run("1", reg="car")  # the constructor's weight
    for weight in (0.5, 2, 10):
        for beta in (0.5, 0.9):
            make_run(f"{weight} {beta}", reg="car", weight=weight, beta=beta)
    data = found(tmp_path)
    swept = sensitivity.sweeps(data.groups)
    assert sorted(swept) == ["reg.beta", "reg.weight"]
    assert [(line.label, sorted(line.groups)) for line in swept["reg.weight"]] == [
        (f"reg=car, reg.beta={beta}", ["0.5", "10", "2"]) for beta in ("0.5", "0.9")
    ]
    assert all(sorted(line.groups) == ["0.5", "0.9"] for line in swept["reg.beta"])


def test_values_are_ordered_as_numbers_after_the_default() -> None:
    assert sensitivity._ordered({"10", "2", "default", "1e-3", "hold", "True"}) == [
        "default", "1e-3", "2", "10", "True", "hold",
    ]  # fmt: skip


def test_a_metric_that_no_run_has_is_drawn_as_nothing(make_run, tmp_path: Path) -> None:
    for k, weight in enumerate((1, 2)):
        make_run(str(k), accuracy=None, reg="car", weight=weight)
    figures = drawn(found(tmp_path))
    assert math.isnan(found(tmp_path).groups[0].mean("test/accuracy"))
    nothing = {name for name, figure in figures.items() if not figure and not name.startswith("pictures")}
    assert nothing == {"the bound", "worst class in training and on test"}


def test_the_end_of_the_sorted_line_is_the_worst_class_of_the_table(make_run, tmp_path: Path) -> None:
    # The worst class differs by seed, so the mean of each class is 45 % or more.
    for seed, correct in enumerate(([9, 9, 0], [0, 9, 9])):
        folder = make_run(str(seed), seed, metrics={"test/worst_class": 0.0})
        write_per_class(folder, ["a", "b", "c"], [200, 20, 2], [10] * 3, correct)
    (group,) = found(tmp_path).groups
    assert sorted_accuracy(group) == pytest.approx([90, 90, 0])
    assert sorted_accuracy(group)[-1] == 100 * group.mean("test/worst_class")
    assert "worst 0 %, zero in every seed at 1 ranks" in one(found(tmp_path), "classes from best to worst").alt


@pytest.mark.parametrize("name", ["reliability", "training curves", "class frequency", "sensitivity to reg.weight"])
def test_a_regularizer_is_dashed_in_every_plot(name: str, make_run, tmp_path: Path) -> None:
    make_run("runs/none", 0, 0.5)
    without = one(found(tmp_path / "runs"), name).svg if "reg" not in name else ""
    make_run("runs/car", 0, 0.7, "car", weight=1.0)
    make_run("runs/more", 0, 0.8, "car", weight=2.0)
    dashed = re.compile(r"stroke-dasharray: [\d. ,]+; stroke-dashoffset: 0; stroke: (#\w+)")
    hue = style.COLOURS[0]  # one loss, one hue
    assert hue not in dashed.findall(without)
    assert hue in dashed.findall(one(found(tmp_path / "runs"), name).svg)


def test_bars_have_the_hue_of_their_loss_and_are_hatched_with_a_regularizer(make_run, tmp_path: Path) -> None:
    for k, reg in enumerate(("none", "car")):
        make_run(str(k), accuracy=0.5, reg=reg)
    drawn = one(found(tmp_path), "worst class in training and on test").svg
    assert "<pattern" in drawn
    assert not [colour for colour in style.COLOURS[1:] if colour in drawn]


def test_a_text_for_the_pointer_has_its_lines() -> None:
    with style.canvas(2, 2) as (figure, (axes,)):
        style.hover(axes, [0], [0], ["reg=car\ncat\x1b: 50 %"])
        assert "<title>reg=car\ncat\\x1b: 50 %</title>" in style.svg(figure, "x")


def test_long_class_names_leave_room_for_the_matrix(make_run, tmp_path: Path) -> None:
    names = [f"{'order family genus ' * 4}species {c}" for c in range(12)]
    make_run("a", classes=12, class_names=names)
    (data,) = group_by_data_set(read_runs([tmp_path])[0])
    drawn = confusion.heat_maps(style.choose(data.groups, data.groups[0]), "x").svg
    assert shortened(names[3], 24) in drawn
    assert names[3] not in drawn.partition("</svg>")[0]
