from pathlib import Path

import pytest

from carlt.errors import CarltError
from carlt.runs import paths
from carlt.runs.reading import read_run, read_runs


def test_jobs_of_a_sweep_come_in_their_order(make_run, tmp_path: Path) -> None:
    for job in ("10_seed", "2_seed", "1_weight=0.5", "1_weight=0.0625"):
        make_run(job)
    runs, left_out = read_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["1_weight=0.0625", "1_weight=0.5", "2_seed", "10_seed"]
    assert left_out == []


def test_a_run_is_read_once_however_often_it_is_named(make_run, tmp_path: Path) -> None:
    folder = make_run("a")
    runs, _ = read_runs([tmp_path, folder, tmp_path / "a" / ".." / "a"])
    assert len(runs) == 1


def test_folders_of_loggers_are_no_runs(make_run, tmp_path: Path) -> None:
    inner = make_run("a") / "wandb" / "run" / "files"
    inner.mkdir(parents=True)
    (inner / paths.CONFIG).write_text("wandb: 1")
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / paths.CONFIG).write_text("x: 1")
    runs, left_out = read_runs([tmp_path])
    assert (len(runs), left_out) == (1, [])


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CarltError, match="no finished run"):
        read_runs([tmp_path])


def test_a_folder_without_runs_among_others_is_named(make_run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    runs, left_out = read_runs([make_run("a"), tmp_path / "empty"])
    assert (len(runs), left_out) == (1, [(tmp_path / "empty", "no run in it")])


def test_a_folder_that_does_not_exist_is_an_error(make_run, tmp_path: Path) -> None:
    make_run("a")
    with pytest.raises(CarltError, match=f"no such folder: {tmp_path / 'b'}"):
        read_runs([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (paths.RESULT, None, "not finished"),
        (paths.RESULT, "{", "result.json is damaged"),
        (paths.RESULT, "[]", "result.json lacks seed, num_classes, epochs, metrics, data"),
        (paths.RESULT, '{"seed": 1}', "result.json lacks num_classes, epochs, metrics, data"),
        (paths.CONFIG, None, "no config.yaml"),
        (paths.CONFIG, "a: [", "config.yaml is damaged"),
        (paths.CONFIG, "a: !!python/object/apply:os.getcwd []", "config.yaml is damaged"),
        (paths.PER_CLASS, None, "no per_class.csv"),
        (paths.PER_CLASS, "class_id\n0\n", "per_class.csv is damaged"),
        (paths.CONFUSION, "PK", "confusion.npz is damaged"),
        (paths.METRICS, None, "no metrics.csv"),
    ],
)
def test_what_is_broken_is_named_and_left_out(
    name: str, content: str | None, reason: str, make_run, tmp_path: Path
) -> None:
    make_run("whole")
    broken = make_run("broken", seed=1)
    (broken / name).unlink()
    if content is not None:
        (broken / name).write_text(content)
    runs, left_out = read_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["whole"]
    assert left_out == [(broken, reason)]


def test_nothing_but_broken_runs_is_one_error_that_says_why(make_run, tmp_path: Path) -> None:
    (make_run("broken") / paths.RESULT).unlink()
    with pytest.raises(CarltError, match=r"no finished run.*broken \(not finished\)"):
        read_runs([tmp_path])


def test_large_files_are_read_when_asked_for(make_run) -> None:
    folder = make_run("a", accuracy=0.5)
    run = read_run(folder)
    (folder / paths.METRICS).write_text("epoch,train/loss\n0,\n")
    assert run.epochs == [{"epoch": 0}]
    assert [row.class_name for row in run.classes] == ["class 0", "class 1", "class 2"]
    assert run.confusion.count.sum() == 30


def test_damage_within_a_file_names_the_run(make_run) -> None:
    folder = make_run("a")
    (folder / paths.METRICS).write_text("epoch\nx\n")
    with pytest.raises(CarltError, match=f"{folder} is damaged"):
        _ = read_run(folder).epochs
