from pathlib import Path

import numpy as np
import pytest

from carlt.reporting.figures import drawings, style
from carlt.reporting.figures.confusion import shares
from carlt.reporting.figures.pairs import _helped_and_harmed, _largest, class_gains, forest
from carlt.reporting.groups import group_by_data_set
from carlt.reporting.pairs import Pair, find_pairs, unpaired, verdicts
from carlt.reporting.statistics import Difference, paired_difference
from carlt.runs.reading import read_runs
from carlt.runs.record import write_per_class


def found(folder: Path) -> list:
    (data,) = group_by_data_set(read_runs([folder])[0])
    return list(data.groups)


def loss(name: str) -> dict:
    return {"loss": {"_target_": name}}


@pytest.fixture
def pairs(make_run, tmp_path: Path) -> list[Pair]:
    """Cross-entropy and focal loss with and without CAR; seed 2 of focal loss lacks CAR, and LDAM has no pair."""
    for seed in range(3):
        make_run(f"a{seed}", seed, 0.2 + 0.1 * seed)
        make_run(f"b{seed}", seed, 0.48 + 0.12 * seed, "car")
        make_run(f"c{seed}", seed, 0.5, config=loss("focal"))
        if seed < 2:
            make_run(f"d{seed}", seed, 0.4, "car", config=loss("focal"))
    make_run("e", 0, 0.9, "car", config=loss("ldam"))
    return find_pairs(found(tmp_path))


def test_pairs_differ_by_the_regularizer_alone(pairs: list[Pair]) -> None:
    assert len(pairs) == 2
    for pair in pairs:
        assert pair.plain.config.get("loss._target_") == pair.regularized.config.get("loss._target_")
        assert (pair.plain.config["choices.reg"], pair.regularized.config["choices.reg"]) == ("none", "car")
    assert [pair.seeds for pair in pairs] == [[0, 1, 2], [0, 1]]
    assert pairs[0].regularizer == "CAR"


def test_every_value_of_a_sweep_is_paired_with_the_same_run(make_run, tmp_path: Path) -> None:
    make_run("0")
    for weight in (1, 2):
        make_run(f"{weight}", reg="car", weight=weight)
    make_run("other data", reg="car", sha="1" * 64)
    found_pairs = find_pairs(found(tmp_path))
    assert [pair.regularized.config["reg.weight"] for pair in found_pairs] == ["1", "2"]
    assert len({id(pair.plain) for pair in found_pairs}) == 1


def test_the_partner_has_the_most_seeds_in_common(make_run, tmp_path: Path) -> None:
    for seed in range(3):
        make_run(f"a{seed}", seed)
        make_run(f"b{seed}", seed, reg="car")
    make_run("c", 9, config={"choices": {"reg": "none", "loss": "ce", "preset": "mine"}})
    assert [pair.seeds for pair in find_pairs(found(tmp_path))] == [[0, 1, 2]]


def test_seeds_in_common_are_needed(make_run, tmp_path: Path) -> None:
    make_run("1", 0)
    make_run("2", 1, reg="car")
    assert find_pairs(found(tmp_path)) == []


def test_differences_and_gains_are_paired(pairs: list[Pair]) -> None:
    mean, half, n = pairs[0].difference("test/accuracy")
    assert (mean, half, n) == (pytest.approx(30), pytest.approx(4.97, abs=0.01), 3)
    mean, _, n = pairs[1].difference("test/accuracy")
    assert (mean, n) == (pytest.approx(-10), 2)
    # The first class has round(10 * accuracy) of 10 right.
    assert pairs[0].class_gains()[0] == pytest.approx(30)
    assert pairs[1].class_gains()[0] == pytest.approx(-10)


def test_a_class_that_changes_by_less_than_is_printed_is_not_listed(pairs: list[Pair]) -> None:
    gains = np.zeros(len(pairs[0].class_gains()))
    gains[:2] = -0.04, -0.06
    (harmed,) = _helped_and_harmed(pairs[0], gains)
    assert [row[-1] for row in harmed.rows] == ["-0.1"]


def test_a_verdict_may_be_quoted(pairs: list[Pair]) -> None:
    three, two = verdicts(pairs)
    assert "3 paired seeds: overall +30.0 points (95 % interval +25.0 to +35.0)*" in three
    assert three.endswith("CAR improves overall, few, worst class and worst 10 %.")
    assert "overall -10.0 points" in two
    assert two.endswith("Two pairs of seeds prove nothing: their interval rests on a single degree of freedom.")
    assert "*" not in two


def test_the_intervals_that_chance_may_have_made_are_counted(pairs: list[Pair]) -> None:
    """Four metrics of the pair with three seeds; two seeds have no interval."""
    look = style.line_styles([group for pair in pairs for group in (pair.plain, pair.regularized)])
    assert " 4 intervals are compared with zero" in forest(pairs, look, "d0").caption


def test_one_seed_proves_nothing(make_run, tmp_path: Path) -> None:
    make_run("1")
    make_run("2", reg="car", accuracy=0.9)
    (said,) = verdicts(find_pairs(found(tmp_path)))
    assert "1 paired seed: overall +40.0 points;" in said
    assert said.endswith("One pair of seeds has no interval and proves nothing.")


def test_a_verdict_names_gains_losses_and_doubts(make_run, tmp_path: Path) -> None:
    for seed in range(3):
        make_run(f"a{seed}", seed, metrics={"test/few": 0.2, "test/worst_class": 0.1 * seed, "test/worst_10pct": None})
        make_run(f"b{seed}", seed, 0.4 + 0.01 * seed, "car", metrics={
            "test/few": 0.3 + 0.01 * seed, "test/worst_class": 0.1, "test/worst_10pct": None
        })  # fmt: skip
    (said,) = verdicts(find_pairs(found(tmp_path)))
    assert said.endswith("CAR improves few and lowers overall; the other intervals show no difference.")
    assert "worst 10 %" not in said


def test_a_regularizer_of_all_rows_is_named(make_run, tmp_path: Path) -> None:
    for k, name in enumerate(("ce", "ldam")):
        make_run(f"{k}", 0, 0.9, "car", config=loss(name))
    (said,) = unpaired(found(tmp_path))
    assert "(trained with reg=car): nothing here shows" in said


def test_a_configuration_without_a_pair_is_named(make_run, tmp_path: Path) -> None:
    make_run("1")
    make_run("2", reg="car", accuracy=0.9)
    assert unpaired(found(tmp_path)) == []
    for k, name in enumerate(("ldam", "focal", "ce2", "ce3")):
        make_run(f"alone{k}", 0, 0.9, "car", config=loss(name))
        (said,) = unpaired(found(tmp_path))
        assert said.count("reg=car") == min(k + 1, 3)
        assert (" and 1 more:" in said) == (k == 3)
        assert said.endswith("Train with reg=none as well.")


@pytest.mark.parametrize(
    ("difference", "excludes"),
    [
        (Difference(2.0, 1.9, 3), True),
        (Difference(-2.0, 1.9, 9), True),
        (Difference(2.0, 2.0, 3), False),
        (Difference(2.0, 0.1, 2), False),
        (paired_difference({0: 57.0, 1: 100 * 0.28, 2: 60.0}, {0: 47.0, 1: 100 * 0.18, 2: 50.0}), False),  # all equal
        (Difference(2.0, float("nan"), 1), False),
    ],
)
def test_an_interval_of_three_pairs_or_more_may_exclude_zero(difference: Difference, excludes: bool) -> None:
    assert difference.excludes_zero is excludes


def test_confusions_are_of_the_common_seeds(make_run, tmp_path: Path) -> None:
    make_run("1", 0, 1.0)
    make_run("2", 1, 0.0)
    (group,) = found(tmp_path)
    assert shares(group, [0])[0, 0] == 1
    assert shares(group, [1])[2, 2] == 0
    assert shares(group)[2, 2] == pytest.approx(0.35)  # 7 and 0 of 10


def test_hue_is_the_loss_and_dash_the_regularizer(pairs: list[Pair]) -> None:
    groups = [group for pair in pairs for group in (pair.plain, pair.regularized)]
    look = style.line_styles(groups)
    for pair in pairs:
        assert look(pair.plain)["color"] == look(pair.regularized)["color"]
        assert look(pair.plain)["ls"] == "-" != look(pair.regularized)["ls"]
    assert look(pairs[0].plain)["color"] != look(pairs[1].plain)["color"]
    assert look(pairs[0].regularized)["ls"] == look(pairs[1].regularized)["ls"]


@pytest.mark.parametrize("classes", [1, pytest.param(12, marks=pytest.mark.slow), 300])
def test_plots_of_pairs_are_drawn_for_any_number_of_classes(classes: int, make_run, tmp_path: Path) -> None:
    make_run("1", classes=classes)
    make_run("2", reg="car", classes=classes, accuracy=0.8)
    (data,) = group_by_data_set(read_runs([tmp_path])[0])
    plots = drawings(data, data.baseline(), "d0")
    assert list(plots)[:4] == [
        "with and without the regularizer",
        "worst class with and without the regularizer",
        "gain of each class",
        "confusion difference",
    ]
    forest, worst, gains, confusion = (plots[name]() for name in list(plots)[:4])
    assert forest.title == "With and without CAR"
    assert "proves nothing" in forest.alt
    assert "without it" in worst.alt
    assert max(len(listing.rows) for listing in gains.listings) <= 10
    assert all(float(row[2]) > 0 for row in gains.listings[0].rows)
    assert confusion.svg.startswith("<svg")


def test_a_class_without_test_images_has_no_gain(make_run, tmp_path: Path) -> None:
    for name, reg in (("1", "none"), ("2", "car")):
        folder = make_run(name, reg=reg)
        rows = (folder / "per_class.csv").read_text().splitlines()
        rows[2] = rows[2].rsplit(",", 3)[0] + ",0,0,"
        (folder / "per_class.csv").write_text("\n".join(rows) + "\n")
    (pair,) = find_pairs(found(tmp_path))
    assert np.isnan(pair.class_gains()).tolist() == [False, True, False]


def test_names_of_many_pairs_are_whole_and_what_is_shown_is_told(make_run, tmp_path: Path) -> None:
    make_run("none")
    for k in range(6):
        make_run(f"car{k}", 0, 0.5 + 0.02 * k, "car", weight=k + 1.0, gradient="as_in_the_class_with_a_long_name")
    (data,) = group_by_data_set(read_runs([tmp_path])[0])
    kept, _ = _largest(find_pairs(data.groups), 2)
    assert [pair.regularized.config["reg.weight"] for pair in kept] == ["5.0", "6.0"]
    figure = drawings(data, data.baseline(), "d0")["worst class with and without the regularizer"]()
    assert figure is not None
    for k in range(6):
        assert f"reg.weight={k + 1}.0" in figure.svg
    assert "of the 4 pairs with the largest gains of the worst class" in figure.caption


def test_a_pair_without_a_common_class_has_a_plot_of_gains(make_run, tmp_path: Path) -> None:
    for name, reg in (("a", "none"), ("b", "car")):
        make_run(name, reg=reg)
        write_per_class(tmp_path / name, ["x", "y", "z"], [200, 20, 2], [0] * 3, [0] * 3)
    (pair,) = find_pairs(groups := found(tmp_path))
    assert np.isnan(pair.class_gains()).all()
    assert class_gains([pair], style.choose(groups, pair.plain).look, "gains").svg.startswith("<svg")
