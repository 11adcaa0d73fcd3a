import json
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from carlt.commands.run import config_of_run
from carlt.config.overrides import compose_checked
from carlt.errors import CarltError
from carlt.reporting.formats import markdown
from carlt.reporting.groups import DataSet, drop_repeats, group_by_data_set
from carlt.reporting.summary import summarize
from carlt.runs import paths
from carlt.runs.reading import read_runs


def found(folder: Path) -> list[DataSet]:
    return group_by_data_set(read_runs([folder])[0])


def labels(folder: Path) -> list[str]:
    (data,) = found(folder)
    return [group.label for group in data.groups]


def test_runs_that_differ_by_seed_are_one_group(make_run, tmp_path: Path) -> None:
    for seed in (1, 0):
        make_run(f"none{seed}", seed)
        make_run(f"car{seed}", seed, reg="car")
    (data,) = found(tmp_path)
    assert [(group.label, list(group.runs)) for group in data.groups] == [("reg=car", [0, 1]), ("reg=none", [0, 1])]


def test_a_label_names_what_sets_a_group_apart_and_no_more(make_run, tmp_path: Path) -> None:
    make_run("1")
    make_run("2", reg="car", weight=0.5)
    make_run("3", reg="car", weight=2.0)
    assert labels(tmp_path) == ["reg=none", "reg=car, reg.weight=0.5", "reg=car, reg.weight=2.0"]


def test_one_group_alone_is_all_runs(make_run, tmp_path: Path) -> None:
    make_run("1")
    assert labels(tmp_path) == ["all runs"]


def test_no_two_groups_have_one_label(make_run, tmp_path: Path) -> None:
    # The recipe is left out of labels because other values repeat it; here nothing else differs.
    make_run("1", config={"recipe": {"x": 1}})
    make_run("2", config={"recipe": {"x": 2}})
    make_run("3", config={"recipe": {"x": 2}}, sha="f" * 64)
    assert labels(tmp_path) == [
        "recipe.x=1, data checksum=00000000",
        "recipe.x=2, data checksum=00000000",
        "recipe.x=2, data checksum=ffffffff",
    ]


@pytest.mark.parametrize("factor", [None, 40])
def test_two_folders_of_images_are_two_data_sets(factor: float | None, make_run, tmp_path: Path) -> None:
    make_run("1", data="image_folder", sha="a" * 64, factor=factor)
    make_run("2", data="image_folder", sha="b" * 64, factor=factor)
    part = f", imbalance factor {factor}" if factor else ""
    assert [data.title for data in found(tmp_path)] == [
        f"image_folder, 3 classes{part}, checksum {letter * 8}" for letter in "ab"
    ]


def test_a_data_set_and_an_imbalance_factor_have_a_table_each(make_run, tmp_path: Path) -> None:
    make_run("1")
    make_run("2", factor=100)
    make_run("3", data="lakes", factor=None)
    make_run("4", data="lakes", factor=None, sha="f" * 64)  # another folder of one's own
    make_run("5", classes=4)
    assert [data.title for data in found(tmp_path)] == [
        "ponds, 3 classes, imbalance factor 10", "ponds, 3 classes, imbalance factor 100",
        "lakes, 3 classes, checksum 00000000", "lakes, 3 classes, checksum ffffffff",
        "ponds, 4 classes, imbalance factor 10",
    ]  # fmt: skip


def identify(folder: Path, run_hash: str, finished: int) -> None:
    """Give the run in ``folder`` an identity and a time at which it finished."""
    path = folder / paths.RESULT
    path.write_text(json.dumps(json.loads(path.read_text()) | {"run_hash": run_hash}))
    os.utime(path, (finished, finished))


def test_of_a_run_done_twice_the_last_counts(make_run, tmp_path: Path) -> None:
    for name, finished in (("1", 20), ("2", 30), ("3", 10)):
        identify(make_run(name, 3), "a", finished)
    identify(make_run("4", 4), "b", 5)
    runs, left_out = drop_repeats(read_runs([tmp_path])[0])
    assert [run.folder.name for run in runs] == ["2", "4"]
    reason = f"the same run as {tmp_path / '2'}, which finished later"
    assert left_out == [(tmp_path / "1", reason), (tmp_path / "3", reason)]
    assert [list(group.runs) for group in group_by_data_set(runs)[0].groups] == [[3, 4]]


def test_what_tables_tell_apart_is_never_a_repeat(make_run, tmp_path: Path) -> None:
    for name, seed, preset in (("1", 3, "x"), ("2", 3, "y"), ("3", 4, "x")):
        identify(make_run(name, seed, config={"choices": {"preset": preset}}), "a", 10)
    runs = read_runs([tmp_path])[0]
    assert drop_repeats(runs) == (runs, [])


def test_one_seed_twice_with_another_identity_is_an_error(make_run, tmp_path: Path) -> None:
    identify(make_run("1", 3), "a", 10)
    identify(make_run("2", 3), "b", 20)
    runs, left_out = drop_repeats(read_runs([tmp_path])[0])
    assert left_out == []
    with pytest.raises(CarltError, match=r"2 repeats seed 3 of .*1 with another run_hash"):
        group_by_data_set(runs)


def test_a_class_that_a_choice_brings_along_tells_nothing_more(make_run, tmp_path: Path) -> None:
    for loss, views in (("ce", "one"), ("glmc", "two")):
        make_run(loss, config={"choices": {"reg": "none", "loss": loss}, "aug": {"contrast": {"_target_": views}}})
    assert [group.label for group in found(tmp_path)[0].groups] == ["loss=ce", "loss=glmc"]
    make_run("by hand", config={"choices": {"reg": "none", "loss": "ce"}, "aug": {"contrast": {"_target_": "mine"}}})
    assert {group.label for group in found(tmp_path)[0].groups} >= {"loss=ce, aug.contrast._target_=mine", "loss=glmc"}


def test_the_default_baseline_is_the_plain_one(make_run, tmp_path: Path) -> None:
    make_run("1", reg="car")
    make_run("2", config={"choices": {"reg": "none", "loss": "balanced_softmax"}})
    make_run("3")
    (data,) = found(tmp_path)
    assert data.baseline().label == "loss=ce, reg=none"


@pytest.mark.parametrize("later", [{"stage": "crt"}, {"posthoc": "tau_norm"}])
def test_what_begins_with_a_trained_network_is_no_baseline(later: dict, make_run, tmp_path: Path) -> None:
    make_run("1", config={"choices": {"reg": "none", "loss": "ce", **later}})
    make_run("2")
    (data,) = found(tmp_path)
    assert [run.folder.name for run in data.baseline().runs.values()] == ["2"]


def test_without_a_plain_one_the_first_is_the_baseline(make_run, tmp_path: Path) -> None:
    make_run("1", reg="car", weight=1)
    make_run("2", reg="car", weight=2)
    (data,) = found(tmp_path)
    assert data.baseline().label == "reg.weight=1"


def test_a_baseline_by_name(make_run, tmp_path: Path) -> None:
    make_run("1")
    make_run("2", reg="car", weight=1)
    make_run("3", reg="car", weight=11)
    (data,) = found(tmp_path)
    assert data.baseline("weight=11").label == "reg=car, reg.weight=11"
    assert data.baseline("reg=car, reg.weight=1").label == "reg=car, reg.weight=1"  # the whole, though also a part
    with pytest.raises(CarltError, match="baseline=weight=1: several labels contain it among"):
        data.baseline("weight=1")
    with pytest.raises(CarltError, match="no such label among reg=none; reg=car"):
        data.baseline("ride")


def test_a_metric_that_is_null_is_no_value(make_run, tmp_path: Path) -> None:
    make_run("1", 0, None)
    make_run("2", 1, 0.25)
    make_run("3", 2, 0.75)
    (data,) = found(tmp_path)
    assert data.groups[0].values("test/few") == {1: 0.25, 2: 0.75}
    assert data.groups[0].mean("test/few") == 0.5
    assert data.groups[0].values("test/unheard") == {}


@pytest.mark.parametrize(
    ("group", "first", "second"), [("aug", "randaugment", "mixup"), ("reg", "car", "confidence_penalty")]
)
def test_combined_options_are_named(group: str, first: str, second: str, make_run, tmp_path: Path) -> None:
    for option in (first, second, f"[{first},{second}]"):
        composed = compose_checked("train", [f"{group}={option}"])
        make_run(option, config=OmegaConf.to_container(config_of_run(composed, composed.hydra), resolve=True))
    assert sorted(labels(tmp_path)) == sorted([f"{group}={first}", f"{group}={first}+{second}", f"{group}={second}"])


def test_combined_augmentations_of_old_records_are_named(make_run, tmp_path: Path) -> None:
    parts = {"transforms": {"randaugment": {"_target_": "x.RandAugment"}}, "mix": {"_target_": "x.MixUp"}}
    make_run("1", config={"choices": {"reg": "none", "loss": "ce", "aug": "standard"}})
    make_run("2", config={"choices": {"reg": "none", "loss": "ce"}, "aug": parts})
    assert labels(tmp_path) == ["aug=standard", "aug=randaugment+mixup"]


def test_a_baseline_has_the_epochs_and_batch_size_of_most_others(make_run, tmp_path: Path) -> None:
    def budget(epochs: int, batch: int) -> dict:
        return {"config": {"trainer": {"max_epochs": epochs}, "data": {"batch_size": batch, "imbalance_factor": 10}}}

    make_run("a short one", **budget(2, 64))
    make_run("plain", **budget(200, 128))
    make_run("car", reg="car", **budget(200, 128))
    make_run("car small", reg="car", **budget(200, 32))
    (data,) = found(tmp_path)
    baseline = data.baseline()
    assert [run.folder.name for run in baseline.runs.values()] == ["plain"]
    table = summarize(data, baseline)[0]
    reasons = [row.not_compared for row in table.rows]
    assert [bool(row.differences) for row in table.rows] == [False, True, False, False]
    of_short = "trainer.max_epochs=2 instead of 200, data.batch_size=64 instead of 128"
    assert reasons == [of_short, "", "data.batch_size=32 instead of 128", ""]
    assert "is not compared with" in markdown(table)
    assert all(
        row.differences for row in summarize(data, baseline, any_budget=True)[0].rows if row.label != baseline.label
    )


def test_a_record_without_batch_size_is_compared(make_run, tmp_path: Path) -> None:
    make_run("old")
    make_run("new", reg="car", config={"trainer": {"max_epochs": 2}})
    (data,) = found(tmp_path)
    assert sorted(bool(row.differences) for row in summarize(data, data.baseline())[0].rows) == [False, True]


def test_a_second_stage_is_compared_whatever_its_epochs(make_run, tmp_path: Path) -> None:
    make_run("1", config={"trainer": {"max_epochs": 200}})
    stage = {"choices": {"reg": "none", "loss": "ce", "stage": "crt"}, "trainer": {"max_epochs": 10}}
    make_run("2", config=stage)
    (data,) = found(tmp_path)
    assert [bool(row.differences) for row in summarize(data, data.baseline())[0].rows] == [False, True]
