"""A sweep before and after its jobs: its folder, its number of jobs, its end."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from carlt.config.compose import quoted
from carlt.errors import CarltError
from carlt.sweeps import plan as sweep
from carlt.sweeps.plan import Record, Sweep, plan

GRID = ("reg.weight=0.1,0.3,0.5,1", "seed=0,1,2")


def folder(*overrides: str) -> str:
    return plan(overrides)[0].folder.name


def test_a_grid_names_its_folder_and_counts_its_jobs() -> None:
    swept, told = plan(GRID)
    assert re.fullmatch(r".*/runs/sweeps/reg\.weight\+seed_[0-9a-f]{8}", str(swept.folder))
    assert (swept.keys, swept.jobs, swept.search) == (("reg.weight", "seed"), 12, False)
    assert told[:2] == list(GRID)
    assert told[2].startswith("hydra.sweep.dir='runs/sweeps/reg.weight+seed_")


@pytest.mark.parametrize(
    "more", ["launcher=joblib", "logger=wandb", "hydra.launcher.n_jobs=4", "data.num_workers=0", "objective=[val/few]"]
)
def test_how_a_sweep_runs_does_not_move_it(more: str) -> None:
    assert folder(*GRID, more) == folder(*GRID) == folder(*reversed(GRID)).replace("seed+reg.weight", "reg.weight+seed")


@pytest.mark.parametrize("more", ["trainer.max_epochs=3", "reg.beta=0.9", "data=cifar10_lt", "sweep=optuna"])
def test_what_is_run_does(more: str) -> None:
    assert folder(*GRID, more) != folder(*GRID)


def test_a_parameter_known_by_its_constructor_names_the_same_folder() -> None:
    assert folder("++reg.weight=0.1,0.3") == folder("reg.weight=0.1,0.3")


def test_every_varied_key_makes_jobs_although_some_name_no_folder() -> None:
    sweep, _ = plan(["data.root=here,there", "seed=0,1"])
    assert (sweep.jobs, sweep.keys) == (4, ("data.root", "seed"))
    assert sweep.folder == plan(["data.root=elsewhere", "seed=0,1"])[0].folder


@pytest.mark.parametrize("name", ["it's", r"a\b", "a=b, c", r"odd\'", "ends in \\"])
def test_a_folder_may_have_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    sweep, complete = plan(["seed=0,1"])
    parsed = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(complete)}
    assert parsed["hydra.sweep.dir"] == str(Path(sweep.folder).relative_to(tmp_path / name))
    assert parsed["hydra.callbacks.sweep.folder"] == str(sweep.folder)
    again, _ = plan(["seed=0,1", f"hydra.sweep.dir={quoted(name)}"])
    assert again.folder == tmp_path / name / name


def test_a_given_folder_stays() -> None:
    swept, told = plan([*GRID, "hydra.sweep.dir='of mine/${now:%Y}'"])
    assert re.fullmatch(r"20\d\d", swept.folder.name)
    assert told[: len(GRID) + 1] == [*GRID, f"hydra.sweep.dir='of mine/{swept.folder.name}'"]


def test_a_folder_that_only_a_job_knows_is_refused() -> None:
    with pytest.raises(CarltError, match=r"hydra\.sweep\.dir must not depend on a job"):
        plan([*GRID, "hydra.sweep.dir=runs/${data.name}"])


def test_a_search_is_told_a_direction_for_each_objective() -> None:
    swept, told = plan(["sweep=optuna", "reg.weight=interval(0.1,1)", "objective=[val/few,val/worst_class]"])
    assert swept.search
    assert "hydra.sweeper.direction=[maximize,maximize]" in told


def test_an_interval_needs_a_search() -> None:
    with pytest.raises(CarltError, match=r"reg\.weight=interval\(0\.1,1\).*add sweep=optuna"):
        plan(["reg.weight=interval(0.1,1)"])


@pytest.fixture
def swept(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path, ("seed",), 3, False)


def test_the_end_names_what_is_left(swept: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    Record(2, 4, "seed=1", "failed", error="out of memory").write(swept)
    Record(4, 4, "seed=3", "failed", error="out of memory").write(swept)
    Record(1, 4, "seed=0").write(swept)
    assert sweep.exit_code(swept) == 1
    sweep.conclude(swept)
    assert capsys.readouterr().out.splitlines() == [
        f"Sweep: 0 of 4 jobs finished, 0 of them before. Folder: {swept.folder}",
        "  job 1 (seed=0) interrupted",
        "  jobs 2 (seed=1), 4 (seed=3) failed: out of memory",
        "The same command does what is left, and skips what is finished.",
    ]


@pytest.mark.parametrize(("search", "order"), [(False, ["none", "car"]), (True, ["car", "none"])])
def test_the_table_begins_with_the_baseline_of_a_grid(
    search: bool, order: list[str], make_run, swept: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, reg in enumerate(("car", "none"), 1):
        Record(number, 2, f"reg={reg}", "finished", str(make_run(str(number), reg=reg))).write(swept)
    sweep.conclude(replace(swept, search=search))
    rows = re.findall(r"^\| reg=(none|car) ", capsys.readouterr().out, re.MULTILINE)
    assert list(dict.fromkeys(rows)) == order


def test_the_code_of_a_signal_stays(swept: Sweep) -> None:
    Record(1, 3, "seed=0").write(swept)
    assert sweep.exit_code(swept, 143) == 143


def test_a_sweep_without_jobs_says_nothing(swept: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.conclude(swept)
    assert sweep.exit_code(swept, 2) == 2
    assert capsys.readouterr().out == ""


def test_a_new_command_forgets_the_notes_of_an_earlier_one(swept: Sweep) -> None:
    Record(1, 3, "seed=0", "finished", seconds=4).write(swept)
    Record(2, 3, "seed=1", "finished", seconds=8).write(swept)
    Record(3, 3, "seed=2", "skipped").write(swept)
    assert sweep.seconds_per_job(swept) == 6
    assert json.loads((swept.folder / sweep.JOBS / "2.json").read_text())["label"] == "seed=1"
    sweep.begin(swept)
    assert sweep.seconds_per_job(swept) is None
