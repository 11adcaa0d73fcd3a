import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from carlt.errors import CarltError
from carlt.runs import examples, paths
from carlt.runs.config_file import read_config
from carlt.runs.reading import finished_run, read_run, read_runs
from carlt.runs.record import write_confusion, write_per_class


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


BOMB = "a: &a [x, x]\n" + "\n".join(f"{c}: &{c} [*{b}, *{b}]" for b, c in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (paths.RESULT, None, "not finished"),
        (paths.RESULT, "{", "result.json is damaged"),
        (paths.RESULT, "[" * 100_000, "result.json is damaged"),
        (paths.RESULT, "[]", "result.json is damaged: no mapping of keys"),
        (paths.RESULT, '{"seed": 1}', "result.json lacks num_classes, epochs, metrics, data"),
        (paths.RESULT, '{"seed": true}', "result.json lacks seed, num_classes, epochs, metrics, data"),
        (paths.CONFIG, None, "no config.yaml"),
        (paths.CONFIG, "a: [", "is damaged"),
        (paths.CONFIG, "\0", "is damaged: not UTF-8 text"),
        (paths.CONFIG, "- 1", "is damaged: no mapping"),
        (paths.CONFIG, "resumed: 3", "is damaged: resumed"),
        (paths.CONFIG, "resumed: [{from_epoch: 1, values: x}]", "is damaged: resumed"),
        (paths.CONFIG, "resumed: [{values: {trainer.max_epochs: 3}}]", "is damaged: resumed"),
        (paths.CONFIG, BOMB, "is damaged: anchors and aliases are not allowed"),
        (paths.CONFIG, "a: !!python/object/apply:os.getcwd []", "is damaged: could not determine a constructor"),
        (paths.PER_CLASS, None, "no per_class.csv"),
        (paths.PER_CLASS, "class_id\n0\n", "per_class.csv is damaged"),
        (paths.CONFUSION, None, "no confusion.npz"),
        (paths.CONFUSION, "PK", "confusion.npz is damaged"),
        (paths.METRICS, None, "no metrics.csv"),
        (paths.METRICS, "epoch\nx\n", "metrics.csv is damaged"),
        (paths.METRICS, "step\n1\n", "metrics.csv is damaged: a row without epoch"),
        (paths.METRICS, "epoch,step\nnan,1\n", "metrics.csv is damaged: an impossible epoch"),
        (paths.METRICS, "epoch,step\n-inf,1\n", "metrics.csv is damaged: an impossible epoch"),
        (paths.METRICS, "epoch,train/loss\n0,-1e300\n", "metrics.csv is damaged: a number beyond 1e+100"),
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
    assert [(folder, reason in why) for folder, why in left_out] == [(broken, True)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metrics", {"test/few": "high"}),
        ("metrics", {"test/few": [1]}),
        ("class_counts", "many"),
        ("class_counts", [1, 2, "3"]),
        ("class_counts", [1, 2]),
        ("best", "yes"),
        ("best", {"metrics": []}),
        ("calibration", []),
        ("calibration", {"test": {"images": [1], "confidence": [0.5], "accuracy": []}}),
        ("calibration", {"test": {"images": [None], "confidence": [0.5], "accuracy": [0.5]}}),
        ("calibration", {"test": dict.fromkeys(("images", "confidence", "accuracy"), [1] * 1001)}),
        ("calibration", {"test": {"images": [-5, 8], "confidence": [0.5, 0.5], "accuracy": [0.5, 0.5]}}),
        ("calibration", {"test": {"images": [float("nan")], "confidence": [0.5], "accuracy": [0.5]}}),
        ("calibration", {"test": {"images": [1], "confidence": [1.5], "accuracy": [0.5]}}),
        ("calibration", {"test": {"images": [1], "confidence": [None], "accuracy": [-0.1]}}),
        ("hardware", ["cpu"]),
        ("data", {"name": 3}),
        ("num_classes", -3),
        ("epochs", 0),
        ("epochs", 10**30),
        ("seed", -(10**30)),
        ("metrics", {"test/accuracy": 10**400}),
        ("metrics", {"test/accuracy": float("inf")}),
        ("timings", 3),
        ("timings", {"fit_s": "x"}),
        ("bound", [3]),
        ("commit", ["x"]),
        ("run_hash", 3),
        ("best", {"metrics": {}, "epoch": "x"}),
        ("best", {"metrics": {}}),
        ("hardware", {"devices": [[10**400]]}),
    ],
)
def test_a_result_of_wrong_types_is_left_out(key: str, value: object, make_run, tmp_path: Path) -> None:
    make_run("whole")
    path = make_run("broken", seed=1) / paths.RESULT
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    runs, left_out = read_runs([tmp_path])
    assert (len(runs), left_out) == (1, [(path.parent, left_out[0].reason)])
    assert left_out[0].reason.startswith(f"result.json is damaged: {key}")


def test_a_deeply_nested_result_is_left_out(make_run, tmp_path: Path) -> None:
    make_run("whole")
    path = make_run("broken", seed=1) / paths.RESULT
    path.write_text(path.read_text().rstrip()[:-1] + f', "note": {"[" * 900}{"]" * 900}' + "}")
    runs, left_out = read_runs([tmp_path])
    assert (len(runs), left_out) == (1, [(path.parent, "result.json is damaged: nested too deeply")])


@pytest.mark.parametrize("claimed", [10_000, 10**15])
def test_a_run_that_claims_more_classes_than_it_has_is_left_out(claimed: int, make_run, tmp_path: Path) -> None:
    make_run("whole")
    path = make_run("liar", seed=1) / paths.RESULT
    liar = json.loads(path.read_text()) | {"num_classes": claimed, "class_counts": None}
    path.write_text(json.dumps(liar))
    runs, left_out = read_runs([tmp_path])
    assert (len(runs), left_out) == (1, [(path.parent, f"per_class.csv is damaged: 3 rows for {claimed} classes")])


def test_classes_in_another_order_are_left_out(make_run, tmp_path: Path) -> None:
    make_run("whole")
    path = make_run("liar", seed=1) / paths.PER_CLASS
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *rows[::-1]]) + "\n")
    assert read_runs([tmp_path])[1] == [(path.parent, "per_class.csv is damaged: 3 rows for 3 classes")]


@pytest.mark.parametrize(
    ("true", "count", "reason"),
    [
        ([9999], [1], "classes outside 0 to 2"),
        ([3], [1], "classes outside 0 to 2"),
        ([0.5], [1], "its arrays are not three equally long lists of integers"),
        ([0], [1, 2], "its arrays are not three equally long lists of integers"),
    ],
)
def test_impossible_cells_of_a_confusion_are_left_out(
    true: list[float], count: list[int], reason: str, make_run, tmp_path: Path
) -> None:
    make_run("whole")
    liar = make_run("liar", seed=1)
    write_confusion(liar, np.array(true), np.array([0]), np.array(count), 3)
    assert read_runs([tmp_path])[1] == [(liar, f"confusion.npz is damaged: {reason}")]


def test_cells_of_any_integers_are_read_as_int64(make_run) -> None:
    folder = make_run("a")
    write_confusion(folder, np.array([0]), np.array([1], dtype=np.uint64), np.array([2], dtype=np.uint8), 3)
    cells = read_run(folder).confusion
    assert [array.dtype for array in (cells.true, cells.predicted, cells.count)] == [np.int64] * 3


@pytest.mark.parametrize(
    "name", [paths.RESULT, paths.CONFIG, paths.PER_CLASS, paths.CONFUSION, paths.METRICS, examples.FILE]
)
def test_a_link_out_of_the_folder_is_not_followed(name: str, make_run, tmp_path: Path) -> None:
    make_run("whole")
    broken = make_run("broken", seed=1)
    secret = tmp_path / "secret"
    secret.write_text("password=hunter2")
    (broken / name).unlink(missing_ok=True)
    (broken / name).symlink_to(secret)
    reason = f"{name} is a link out of the run folder, and is not followed; put a copy in its place"
    assert read_runs([tmp_path])[1] == [(broken, reason)]


def test_links_within_the_folder_and_to_it_are_followed(make_run, tmp_path: Path) -> None:
    folder = make_run("a")
    (folder / paths.METRICS).rename(folder / "moved.csv")
    (folder / paths.METRICS).symlink_to("moved.csv")
    (tmp_path / "link").symlink_to(folder)
    assert read_run(tmp_path / "link").epochs


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (paths.METRICS, "epoch\npassword=hunter2\n"),
        (paths.PER_CLASS, "class_id,class_name,train_count,group,test_count,correct,accuracy\nhunter2,a,1,few,1,1,1\n"),
        (paths.PER_CLASS, "class_id,class_name,train_count,group,test_count,correct,accuracy\n0,a,1,few,1,1,hunter2\n"),
    ],
)
def test_the_reason_repeats_no_cell(name: str, content: str, make_run, tmp_path: Path) -> None:
    make_run("whole")
    broken = make_run("broken", seed=1)
    (broken / name).write_text(content)
    assert read_runs([tmp_path])[1] == [(broken, f"{name} is damaged: a cell is no number")]


@pytest.mark.parametrize("count", [-1, 1 << 62])
def test_counts_that_no_data_set_has_are_left_out(count: int, make_run, tmp_path: Path) -> None:
    make_run("whole")
    cells, classes = make_run("cells", seed=1), make_run("classes", seed=2)
    write_confusion(cells, np.array([0]), np.array([0]), np.array([count]), 3)
    write_per_class(classes, ["a", "b", "c"], [count, 1, 1], [1, 1, 1], [1, 1, 1])
    assert read_runs([tmp_path])[1] == [
        (cells, "confusion.npz is damaged: impossible counts"),
        (classes, "per_class.csv is damaged: impossible counts of class 0"),
    ]


@pytest.mark.parametrize(
    "row", ["0,a,100,medium,1,2,2.0", "0,a,100,huge,1,1,1.0", "0,a,100,medium,2,1,0.9", "0,a,100,medium,0,0,1.0"]
)
def test_a_class_that_contradicts_itself_is_left_out(row: str, make_run, tmp_path: Path) -> None:
    make_run("whole")
    path = make_run("liar", seed=1) / paths.PER_CLASS
    header, _, *rest = path.read_text().splitlines()
    path.write_text("\n".join([header, row, *rest]) + "\n")
    assert read_runs([tmp_path])[1] == [(path.parent, "per_class.csv is damaged: impossible counts of class 0")]


def test_a_flipped_bit_in_an_archive_is_noticed(make_run, tmp_path: Path) -> None:
    make_run("whole")
    path = make_run("flipped", seed=1) / paths.CONFUSION
    content = bytearray(path.read_bytes())
    content[content.index(b"true.npy")] ^= 1
    path.write_bytes(content)
    runs, left_out = read_runs([tmp_path])
    assert (len(runs), [folder for folder, _ in left_out]) == (1, [path.parent])


def test_a_run_that_is_not_finished_says_how_to_finish_it(make_run) -> None:
    folder = make_run("my run")
    (folder / paths.RESULT).unlink()
    with pytest.raises(CarltError, match=f"not finished; python -m carlt.train 'resume={folder}' finishes it"):
        finished_run(folder)


def test_a_path_that_is_no_utf8_is_read_as_it_was_written(make_run) -> None:
    root = os.fsdecode(b"caf\xe9")
    folder = make_run("a", config={"data": {"root": root}})
    assert "\\uDCE9" in (folder / paths.CONFIG).read_text()
    assert read_config(folder)["data"]["root"] == root
    with open(folder / paths.CONFIG, "a") as file:
        file.write("seed: 1\n")
    with pytest.raises(CarltError, match="'seed' occurs twice"):
        read_config(folder)


def test_a_folder_that_cannot_be_listed_is_named(make_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run("open")
    closed, scan = make_run("closed", seed=1), os.scandir

    def refusing(function, path):
        if Path(path) == closed or closed in Path(path).parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return function(path)

    monkeypatch.setattr(os, "scandir", lambda path: refusing(scan, path))
    monkeypatch.setattr(Path, "is_symlink", lambda path: refusing(os.path.islink, path))
    runs, left_out = read_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["open"]
    assert left_out == [(closed, "cannot be read (Permission denied)")]


def test_a_link_to_a_run_is_named_unless_it_is_given(make_run, tmp_path: Path) -> None:
    run, elsewhere = make_run("runs/real"), make_run("elsewhere", seed=1)
    (tmp_path / "runs" / "linked").symlink_to(elsewhere)
    (tmp_path / "runs" / "again").symlink_to(run)  # is read by its own name
    (tmp_path / "runs" / "images").symlink_to(tmp_path)
    runs, left_out = read_runs([tmp_path / "runs"])
    assert [run.folder.name for run in runs] == ["real"]
    assert left_out == [(tmp_path / "runs" / "linked", "a link, which is not followed; give it by its own name")]
    runs, left_out = read_runs([tmp_path / "runs", tmp_path / "runs" / "linked"])
    assert ([run.seed for run in runs], left_out) == ([1, 0], [])


def test_names_of_earlier_versions_are_todays(make_run) -> None:
    loss = {"_target_": "carlt.losses.CrossEntropy", "reweight": 0.9}
    optim = {"_target_": "carlt.optim.SGD"}
    run = read_run(make_run("old", config={"loss": loss, "optim": optim, "sampler": {"_target_": "mine"}}))
    assert run.config["loss.effective_number_beta"] == "0.9"
    assert run.config["optim._target_"] == "carlt.training.optim.SGD"
    assert run.config["sampler._target_"] == "mine"


def test_a_number_of_any_length_can_be_drawn(make_run) -> None:
    folder = make_run("a")
    (folder / paths.METRICS).write_text(f"epoch,step,train/loss\n0,5,{'9' * 401}\n1,10,0.5\n")
    rows = read_run(folder).epochs
    assert np.array([row["train/loss"] for row in rows]).dtype == float
    assert (rows[0]["train/loss"] / 2, rows[1]["epoch"]) == (math.inf, 1)


def test_nothing_but_broken_runs_is_one_error_that_says_why(make_run, tmp_path: Path) -> None:
    (make_run("broken") / paths.RESULT).unlink()
    with pytest.raises(CarltError, match=r"no finished run.*broken \(not finished\)"):
        read_runs([tmp_path])


def test_all_records_of_a_run_are_read(make_run) -> None:
    run = read_run(make_run("a", accuracy=0.5))
    assert run.epochs[1] == {"epoch": 1, "step": 10, "train/loss": 1.5, "train_batches/worst_class": 0.2,
                             "car/ema_gap": 0.7}  # fmt: skip
    assert [row.class_name for row in run.classes] == ["class 0", "class 1", "class 2"]
    assert run.confusion.count.sum() == 30


def test_a_metric_that_a_run_lacks_is_nan(make_run) -> None:
    run = read_run(make_run("a", metrics={"test/few": None}))
    assert math.isnan(run.metric("test/few"))
    assert math.isnan(run.metric("test/unheard_of"))


@pytest.mark.parametrize(("recorded", "shown"), [("c" * 64, "cccccccc"), (None, "None")])
def test_a_config_of_another_run_is_noticed(recorded: str | None, shown: str, make_run, tmp_path: Path) -> None:
    make_run("sound", config={"run_hash": "a" * 64}, run_hash_of_result="a" * 64)
    mixed = make_run("mixed", seed=1, config={"run_hash": "b" * 64}, run_hash_of_result=recorded)
    runs, left_out = read_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["sound"]
    ((folder, reason),) = left_out
    assert folder == mixed
    assert f"config.yaml and result.json are of different runs (run_hash bbbbbbbb and {shown})" in reason
