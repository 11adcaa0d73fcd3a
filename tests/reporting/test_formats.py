import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from carlt.errors import CarltError
from carlt.reporting import formats
from carlt.reporting.groups import group_by_data_set
from carlt.reporting.published import Published
from carlt.reporting.summary import Table, summarize
from carlt.runs.reading import read_runs

KNOWN = Published(
    "R&D_1",
    "ViT",
    {"test/accuracy": "38.3-38.5", "test/worst_ratio": "0.19"},
    dict.fromkeys(["test/accuracy", "test/worst_ratio"], "a table"),
)


@pytest.fixture
def table(make_run, tmp_path: Path) -> Table:
    """Three seeds without and two with a regularizer of an awkward name; WR is defined once."""
    for seed, accuracy in enumerate([0.1, 0.2, 0.3]):
        make_run(
            f"none{seed}", seed, accuracy, metrics={"test/worst_ratio": 0.5 if seed == 1 else None, "test/few": None}
        )
        if seed:
            make_run(
                f"odd{seed}", seed, accuracy + 0.3, "a&b_50%|*<x>", metrics={"test/worst_ratio": None, "test/few": None}
            )
    (data,) = group_by_data_set(read_runs([tmp_path])[0])
    return summarize(data, data.baseline(), [KNOWN])[0]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown(table: Table) -> None:
    lines = formats.markdown(table).splitlines()
    assert lines[0] == "### ponds, 3 classes, imbalance factor 10: last epoch (2)"
    head = cells(lines[2])
    assert head == [
        "configuration",
        "n",
        "many",
        "medium",
        "overall",
        "worst class",
        "WR",
        "worst 10 %",
        "classes at 0",
        "ECE",
    ]
    rows = {
        row[0]: dict(zip(head, row, strict=True))
        for row in map(cells, (line for line in lines[4:] if line.startswith("|")))
    }
    none, odd = rows["reg=none"], rows[r"reg=a&amp;b_50%\|\*&lt;x>"]
    assert (none["n"], none["overall"], odd["overall"]) == ("3", "20.0 ± 10.0", "**55.0 ± 7.1**")
    assert (none["WR"], odd["WR"]) == ("0.50 (n = 1)", "-")
    difference = rows[r"reg=a&amp;b_50%\|\*&lt;x> minus reg=none"]
    assert (difference["n"], difference["overall"], difference["WR"]) == ("2", "+30.0 ± 0.0", "-")
    assert lines[-1] == "- Published, not measured here: a table."


def test_published_numbers_are_labelled_and_take_part_in_nothing(table: Table) -> None:
    lines = list(formats.lines(table))
    assert [line.part for line in lines] == ["measured", "measured", "difference", "published"]
    published = lines[-1]
    assert published.label == "R&D_1 (ViT), published"
    assert [cell for cell in published.cells if cell[0]] == [("38.3-38.5", False), ("0.19", False)]


def test_one_seed_shows_no_deviation(make_run, tmp_path: Path) -> None:
    make_run("1", 0, 0.5)
    make_run("2", 0, 0.25, "car")
    (data,) = group_by_data_set(read_runs([tmp_path])[0])
    text = formats.markdown(summarize(data, data.baseline())[0])
    assert "| reg=none | 1 | **50.0** |" in text
    assert "| reg=car minus reg=none | 1 | -25.0 |" in text


def test_latex_escapes_and_rules(table: Table) -> None:
    text = formats.latex(table, [*formats.PAPER, "worst_ratio"], differences=True)
    assert r"a\&b\_50\%|*\textless{}x\textgreater{} & 2 &" in text
    assert r"\textbf{55.0 $\pm$ 7.1}" in text
    assert r"\textit{R\&D\_1 (ViT), published}" in text
    assert "38.3--38.5" in text
    assert text.count(r"\midrule") == 3
    columns = {line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")}
    assert columns == {7}
    # Every special letter outside of commands is escaped.
    body = text[text.index(r"\toprule") :]
    assert not [i for i, letter in enumerate(body) if letter in "%_#" and body[i - 1] != "\\"]


@pytest.mark.parametrize("label", ["[9cm]", "*"])
def test_no_row_of_latex_is_an_argument_of_the_one_above(label: str, table: Table) -> None:
    (first, *rest) = table.rows
    text = formats.latex(replace(table, rows=[replace(first, label=label), *rest]))
    assert f"\n{{}}{label} & " in text


def test_latex_special_letters() -> None:
    assert formats._latex("#1 {x} $y$ ~^\\") == (r"\#1 \{x\} \$y\$ \textasciitilde{}\textasciicircum{}\textbackslash{}")
    assert [formats._latex_number(text) for text in ("-1.5 ± 0.2", "+1", "-", "1-2")] == [
        r"$-$1.5 $\pm$ 0.2", "+1", "--", "1--2",
    ]  # fmt: skip


def test_latex_of_chosen_metrics_with_short_labels(table: Table) -> None:
    text = formats.latex(table)
    assert " & n & many & med. & few & all & worst" in text
    assert "minus" not in text
    assert "minus" in formats.latex(table, differences=True)
    assert [formats._short(label) for label in ("reg=car, loss=ce", "reg=none", "reg=none, reg.beta=0.9, loss=ce",
                                                "reg=car minus reg=none, loss=ce")] == [
        "car, ce", "none", "reg.beta=0.9, ce", "car minus ce",
    ]  # fmt: skip
    assert " & n & few" in formats.latex(table, ["few"])
    with pytest.raises(CarltError, match="metrics=top1: no such metric among many, medium, few"):
        formats.latex(table, ["few", "top1"])


@pytest.mark.parametrize(("value", "text"), [(0.04, "0.0"), (-0.04, "0.0"), (0.06, "+0.1"), (-3.0, "-3.0")])
def test_a_difference_that_reads_as_zero_has_no_sign(value: float, text: str, table: Table) -> None:
    assert formats.format_difference(formats.Difference(value, math.nan, 1), table.columns[0], 1) == text


def test_latex_says_what_is_not_compared_beside_differences_alone(table: Table) -> None:
    rows = [replace(row, not_compared="other epochs") for row in table.rows]
    table = replace(table, rows=rows)
    assert "other epochs" not in formats.latex(table)
    assert "other epochs" in formats.latex(table, differences=True)


def test_a_caption_says_what_its_rows_are(table: Table) -> None:
    plain, differences = (formats.latex(table, differences=each) for each in (False, True))
    assert "Test accuracy in \\%, mean" in plain
    assert "confidence interval" not in plain
    assert "half their 95 \\% confidence interval; *: the interval excludes zero." in differences
    assert "in \\% but for ratios and counts" in formats.latex(table, ("accuracy", "worst_ratio"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("_background_", r"\_background\_"), ("balanced_softmax", "balanced_softmax"), ("&lt;", "&amp;lt;")],
)
def test_markdown_shows_a_text_as_it_is(text: str, shown: str) -> None:
    assert formats.markdown_text(text) == shown
