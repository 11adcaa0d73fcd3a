"""`carlt.report` on real runs, as a user types it."""

import csv
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import yaml
from tests.conftest import Command
from tests.runs.test_locks import another_process_in

from carlt.reporting.summary import COLUMNS
from carlt.runs import paths
from carlt.runs.record import read_result

FILES = ("report.html", "tables.md", "tables.tex", "tables.csv")
NUMBERS = ("seeds.csv", "classes.csv")


@pytest.fixture(scope="module")
def runs(finished: Path, run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CAR run, one without, and one that was killed."""
    folder = tmp_path_factory.mktemp("sweep")
    shutil.copytree(finished, folder / "reg=car")
    run(folder / "reg=none", "reg=none", "trainer.max_epochs=1")
    (folder / "killed").mkdir()
    (folder / "killed" / paths.CONFIG).write_text("seed: 3\n")
    return folder


@pytest.fixture
def report(command: Command) -> Command:
    """``report(*words)``: the command."""
    return partial(command, "report")


@pytest.fixture
def no_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take most of the time of a report."""
    monkeypatch.setattr("carlt.commands.report.drawings", lambda *_: {})


def test_a_report_of_real_runs(runs: Path, tmp_path: Path, report: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    _, out, err = report(runs, f"out={tmp_path}/out", f"figure={tmp_path}/classes.png")
    said = [line for line in err.splitlines() if "still running" not in line]
    assert said == [f"left out: {runs / 'killed'} (not finished)"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES + NUMBERS)
    assert out.startswith((tmp_path / "out" / "tables.md").read_text())
    assert out.splitlines()[-1].startswith(f"Page: {tmp_path}/out/report.html")
    assert (tmp_path / "classes.png").read_bytes().startswith(b"\x89PNG")
    assert "digits_lt, 10 classes, imbalance factor 40: last epoch (1 to 3)" in out
    assert "best epoch, chosen by val/balanced_accuracy on the validation split" in out
    page = (tmp_path / "out" / "report.html").read_text()
    for part in ("Accuracy against class frequency", "Classes from best to worst", "Confusion", "Training curves",
                 "CAR diagnostics", "The worst class and the norm that bounds it", "Reliability",
                 "The worst class in training and on test", "Left out", "digit 9", str(runs / "reg=car")):  # fmt: skip
        assert part in page
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before  # the records are read, no more


@pytest.mark.usefixtures("no_drawings")
def test_metrics_and_differences_of_the_latex_table(runs: Path, tmp_path: Path, report: Command) -> None:
    report(runs, f"out={tmp_path}", "metrics=few,ece", "differences=true", "baseline=reg=none")
    latex = (tmp_path / "tables.tex").read_text()
    assert " & n & few & ECE" in latex
    assert "minus" in latex


@pytest.mark.usefixtures("no_drawings")
@pytest.mark.parametrize("baseline", ["reg=none", "reg=car"])
def test_the_baseline_is_the_first_row(baseline: str, runs: Path, tmp_path: Path, report: Command) -> None:
    report(runs, f"out={tmp_path}", f"baseline={baseline}")
    with (tmp_path / "tables.csv").open(newline="") as file:
        rows = [row["configuration"] for row in csv.DictReader(file)]
    assert rows[0].startswith(baseline)
    assert len(set(rows)) == 2


@pytest.mark.usefixtures("no_drawings")
def test_in_a_terminal_the_tables_are_drawn(runs: Path, tmp_path: Path, report: Command, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    _, shown, _ = report(runs, f"out={tmp_path}")
    assert "───" in shown
    assert "|---" not in shown
    assert "|---" in (tmp_path / "tables.md").read_text()


@pytest.mark.usefixtures("no_drawings")
def test_the_numbers_are_those_of_the_records(runs: Path, tmp_path: Path, report: Command) -> None:
    report(runs, f"out={tmp_path}")
    scales = {column.metric: column.scale for column in COLUMNS}
    with open(tmp_path / "tables.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["epoch"].startswith("last")]
    for reg in ("car", "none"):
        metrics = read_result(runs / f"reg={reg}")["metrics"]
        for row in rows:
            if ("reg=car" in row["configuration"]) == (reg == "car"):
                value = metrics[row["metric"]]
                assert row["mean"] == ("" if value is None else repr(scales[row["metric"]] * value))
                assert (row["n"], row["sd"]) == ("0" if value is None else "1", "")


@pytest.mark.usefixtures("no_drawings")
def test_a_run_done_twice_is_told_and_counts_once(runs: Path, tmp_path: Path, report: Command) -> None:
    again = tmp_path / "again"
    shutil.copytree(runs / "reg=car", again)  # as old as the first
    os.utime(again / paths.RESULT)
    _, out, err = report(runs, again, f"out={tmp_path}/out")
    reason = f"the same run as {again}, which finished later"
    assert f"left out: {runs / 'reg=car'} ({reason})" in err.splitlines()
    assert reason in (tmp_path / "out" / "report.html").read_text()
    assert [
        line.split("|")[2]
        for line in out.splitlines()
        if line.startswith("|") and "minus" not in line and "reg=car" in line
    ] == [" 1 "] * 2


@pytest.mark.usefixtures("no_drawings")
def test_a_choice_on_the_test_split_is_labelled(finished: Path, tmp_path: Path, report: Command) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    text = (folder / paths.RESULT).read_text()
    (folder / paths.RESULT).write_text(text.replace("on the validation split", "on the TEST split"))
    _, out, _ = report(folder, f"out={tmp_path}")
    label = "chosen by val/balanced_accuracy on the TEST split"
    assert label in out
    assert all(label in (tmp_path / name).read_text().replace(r"\_", "_") for name in FILES)


@pytest.mark.usefixtures("no_drawings")
def test_published_numbers_and_a_baseline(runs: Path, tmp_path: Path, report: Command) -> None:
    for folder in runs.glob("reg=*"):  # as if they were of CIFAR10-LT
        copy = tmp_path / "runs" / folder.name
        shutil.copytree(folder, copy)
        result = (copy / paths.RESULT).read_text()
        result = result.replace('"name": "digits_lt"', '"name": "cifar10_lt"')
        (copy / paths.RESULT).write_text(result)
        config = yaml.safe_load((copy / paths.CONFIG).read_text())
        config["data"]["imbalance_factor"] = 100
        (copy / paths.CONFIG).write_text(yaml.safe_dump(config))
    _, out, _ = report(tmp_path / "runs", f"out={tmp_path}", "published=true", "baseline=reg=car")
    assert "| LDAM-DRW (ResNet-32), published |  |" in out
    assert "minus reg=car" in out
    assert "not measured here" not in report(tmp_path / "runs", f"out={tmp_path}")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out=x"], "no folder given"),
        (["nowhere"], "no such folder: nowhere"),
        (
            ["{runs}", "baselin=x"],
            "'baselin=x' is none of out=, baseline=, published=, metrics=, differences=, figure=; did",
        ),
        (["{runs}", "--published"], "published= has no value"),
        (["{runs}", "published=maybe"], "published=maybe: choose from true, false"),
        (["{runs}", "out="], "out= has no value"),
        (["{runs}", "metrics=top1"], "metrics=top1: no such metric among many, medium, few"),
        (["{runs}", "baseline=reg=ride"], "baseline=reg=ride: no such label among"),
        (["{runs}/killed"], "no finished run"),
        (["{runs}", "out={runs}/reg=car/result.json"], "out={runs}/reg=car/result.json: "),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str], message: str, runs: Path, tmp_path: Path, report: Command, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, errors = report(*(argument.format(runs=runs) for argument in arguments))
    assert code == 2
    assert errors.splitlines()[-1].startswith(f"carlt.report: error: {message.format(runs=runs)}")


@pytest.mark.usefixtures("no_drawings")
def test_files_of_another_program_are_not_replaced(runs: Path, tmp_path: Path, report: Command) -> None:
    (tmp_path / "classes.csv").write_text("mine")
    code, _, errors = report(runs, f"out={tmp_path}")
    assert code == 2
    assert f"{tmp_path}/classes.csv is of no report of carlt, and would be replaced; choose another out=" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["classes.csv"]
    (tmp_path / "classes.csv").unlink()
    assert [report(runs, f"out={tmp_path}")[0] for _ in range(2)] == [0, 0]


def test_of_two_reports_into_one_folder_the_second_is_one_line(runs: Path, tmp_path: Path, report: Command) -> None:
    with another_process_in(tmp_path):
        code, _, errors = report(runs, f"out={tmp_path}")
    assert code == 2
    assert f"another process uses {tmp_path}; wait until it ends, or choose another" in errors
    assert not (tmp_path / "tables.md").exists()


def test_help(report: Command) -> None:
    code, text, _ = report("--help")
    assert code == 0
    assert all(f"{option}=" in text for option in ("out", "baseline", "published", "figure"))
