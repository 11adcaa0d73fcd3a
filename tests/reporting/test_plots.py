from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from carlt.reporting import fonts, plots
from carlt.reporting.classes import agreed
from carlt.reporting.figures.style import choose
from carlt.reporting.groups import group_by_data_set
from carlt.reporting.html import class_table
from carlt.runs.reading import read_run
from carlt.runs.record import write_confusion, write_per_class


@pytest.mark.parametrize("classes", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (15, 45)), 450])
def test_any_number_of_classes_can_be_drawn(classes: int, tmp_path: Path) -> None:
    counts = list(range(classes, 0, -1))
    seen = [0, *[4] * (classes - 1)]  # the first class has no test images
    write_per_class(tmp_path, [f"class {c}" for c in range(classes)], counts, seen, [n // 2 for n in seen])
    everyone = np.arange(1, classes)
    write_confusion(tmp_path, everyone, everyone, np.full(classes - 1, 4), classes)
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss\n0,5,2.5\n1,10,\n")
    for path in plots.draw_run(tmp_path).values():
        assert path.read_bytes().startswith(b"\x89PNG")


def drawn(folder: Path, monkeypatch: pytest.MonkeyPatch, draw) -> list:
    """The axes of the figure that ``draw`` draws of ``folder``."""
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    draw(folder)
    return figures[0].axes


def made(folder: Path, names: list[str], correct: list[int]) -> Path:
    classes = len(names)
    write_per_class(folder, names, list(range(classes, 0, -1)), [4] * classes, correct)
    everyone = np.arange(classes)
    write_confusion(folder, everyone, everyone, np.full(classes, 4), classes)
    return folder


def test_ticks_of_a_summed_confusion_are_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path, [str(c) for c in range(1000)], [2] * 1000)
    axes = drawn(folder, monkeypatch, plots.confusion)[0]
    assert axes.get_xlim() == (0.5, 1000.5)
    assert axes.get_ylim() == (1000.5, 0.5)
    assert "rank by training images" in axes.get_xlabel()
    assert "one cell: about 5.0 classes" in axes.get_title()


def test_many_classes_are_points_and_no_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path, [str(c) for c in range(1000)], [0] * 1000)
    axes = drawn(folder, monkeypatch, plots.per_class)[0]
    assert not axes.patches
    assert sum(len(line.get_xdata()) for line in axes.lines) == 1000
    assert axes.get_ylim()[0] < 0  # points at zero are seen whole


def test_a_class_at_zero_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = drawn(made(tmp_path, ["a", "b", "c"], [4, 0, 2]), monkeypatch, plots.per_class)[0]
    assert [x for line in axes.lines for x in line.get_xdata()] == [1]


def test_long_names_stand_upright_and_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = drawn(made(tmp_path, [f"{c} {'long ' * 10}" for c in range(5)], [2] * 5), monkeypatch, plots.per_class)[0]
    labels = axes.get_xticklabels()
    assert {label.get_rotation() for label in labels} == {90}
    assert max(len(label.get_text().splitlines()[0]) for label in labels) == 24


def test_names_with_dollars_and_control_characters_are_drawn_as_they_are(tmp_path: Path) -> None:
    made(tmp_path, ["$x^{2$", "\x1b[31m", "a\rb", "=1+1", "猫\U000a1234"], [4, 0, 2, 2, 1])
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss\n0,5,2.5\n")
    assert len(plots.draw_run(tmp_path)) == 3


def test_compared_classes_have_the_hue_and_the_hatch_of_a_report(make_run, tmp_path: Path, monkeypatch) -> None:
    for name, reg in (("plain", "none"), ("regularized", "car")):
        make_run(name, reg=reg, class_names=["$x^{2$", "\x1b[31m", "猫"])
        write_per_class(tmp_path / name, ["$x^{2$", "\x1b[31m", "猫"], [200, 20, 2], [4] * 3, [4, 0, 2])
    (data,) = group_by_data_set([read_run(tmp_path / name) for name in ("plain", "regularized")])
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: figures.append(self) or save(self, *args, **kwargs)
    )
    look = choose(data.groups, data.baseline()).look
    assert plots.compare_classes(data.groups, look, tmp_path / "new" / "x.png").read_bytes().startswith(b"\x89PNG")
    bars = figures[0].axes[0].patches
    assert [bool(bar.get_hatch()) for bar in bars] == [False] * 3 + [True] * 3
    assert {bar.get_edgecolor() for bar in bars} == {to_rgba("#0072b2")}
    marks = [line for line in figures[0].axes[0].lines if line.get_marker() == "x"]
    assert [len(line.get_xdata()) for line in marks] == [1, 1]  # the second class is at zero in both
    ticks = [label.get_text() for label in figures[0].axes[0].get_xticklabels()]
    assert ticks == ["$x^{2$\nn = 200", "\\x1b[31m\nn = 20", "猫\nn = 2"]


def test_training_images_in_which_configurations_differ_are_not_those_of_the_first(make_run, tmp_path: Path) -> None:
    for name, reg, counts in (("a", "none", [200, 20, 2]), ("b", "car", [150, 20, 2])):
        make_run(name, reg=reg)
        write_per_class(tmp_path / name, ["class 0", "class 1", "class 2"], counts, [4] * 3, [4, 0, 2])
    (data,) = group_by_data_set([read_run(tmp_path / name) for name in "ab"])
    assert agreed(data.groups, lambda row: row.train_count) == [None, 20, 2]
    table = class_table(data)
    assert "configurations have different numbers of training images" in table
    assert '<th scope="row">class 0</th><td>many</td><td>-</td>' in table
    assert '<th scope="row">class 1</th><td>medium</td><td>20</td>' in table


@pytest.mark.parametrize(("losses", "bottom"), [((2.5, 0.5), 0.0), ((-0.3, -0.9), -0.93)])
def test_a_negative_loss_is_drawn_within_its_axes(losses, bottom, tmp_path: Path, monkeypatch) -> None:
    rows = [f"{epoch},{epoch},{loss}" for epoch, loss in enumerate(losses)]
    (tmp_path / "metrics.csv").write_text("\n".join(["epoch,step,train/loss", *rows]) + "\n")
    axes = drawn(tmp_path, monkeypatch, plots.curves)[0]
    assert axes.get_ylim()[0] == pytest.approx(bottom)
    assert axes.get_ylim()[1] > max(losses)


def test_a_group_without_test_images_has_no_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [200] * 40 + [2] * 30
    write_per_class(tmp_path, [str(c) for c in range(70)], counts, [4] * 40 + [0] * 30, [2] * 40 + [0] * 30)
    (line,) = drawn(tmp_path, monkeypatch, plots.per_class)[0].collections
    assert {float(y) for segment in line.get_segments() for _, y in segment} == {50.0}


def test_a_picture_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, monkeypatch) -> None:
    def cut_off(self, path, **options) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    folder = made(tmp_path, ["a", "b"], [4, 2])
    content = plots.per_class(folder).read_bytes()
    monkeypatch.setattr(Figure, "savefig", cut_off)
    with pytest.raises(KeyboardInterrupt):
        plots.per_class(folder)
    assert [path.read_bytes() for path in (folder / "plots").iterdir()] == [content]


def test_a_class_without_test_images_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_per_class(tmp_path, ["a", "b"], [5, 2], [4, 0], [4, 0])
    axes = drawn(tmp_path, monkeypatch, plots.per_class)[0]
    assert [text.get_text() for text in axes.texts] == ["no test images"]


def test_fonts_for_other_letters_follow_matplotlibs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.font_manager.fontManager.get_font_names", lambda: ["Unifont", "Noto Sans CJK JP"])
    fonts.families.cache_clear()
    assert fonts.families() == ["DejaVu Sans", "Noto Sans CJK JP", "Unifont"]
    fonts.families.cache_clear()


def test_shares_have_the_whole_axis_and_other_curves_begin_at_zero(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss,val/few\n0,5,2.5,0.4\n1,10,2.0,0.5\n")
    loss, val = drawn(tmp_path, monkeypatch, plots.curves)
    assert loss.get_ylim()[0] == 0
    assert val.get_ylim() == (-2, 102)
