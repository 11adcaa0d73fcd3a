"""What a finished run leaves behind, and that `carlt.evaluate` finds the same."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tests.conftest import Command

from carlt.config.schema import validate
from carlt.errors import CarltError
from carlt.evaluation.evaluate import evaluate as evaluate_checkpoint
from carlt.runs import paths
from carlt.runs.examples import read_examples
from carlt.runs.hash import run_hash
from carlt.runs.record import read_result

COUNTS = [104, 69, 45, 30, 20, 13, 8, 5, 3, 2]


def test_the_folder_holds_every_promised_file(finished: Path) -> None:
    found = {path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()}
    assert found == {
        "config.yaml", "metrics.csv", "result.json", "per_class.csv", "confusion.npz", "plots/per_class.png",
        "margin_confusion.npz", "plots/confusion.png", "plots/confused_pairs.png", "plots/worst_classes.png",
        "examples.npz", "plots/curves.png", "checkpoints/last.ckpt", "checkpoints/best.ckpt",
    }  # fmt: skip


def test_result_has_the_keys_that_scripts_rely_on(finished: Path) -> None:
    result = read_result(finished)
    names = ("accuracy", "balanced_accuracy", "many", "medium", "few", "worst_class", "worst_10pct", "classes_at_zero",
             "macro_f1", "geometric_mean", "harmonic_mean", "ece", "worst_margin_error", "weighted_worst_error",
             "spectral_norm")  # fmt: skip
    assert {f"{split}/{name}" for split in ("test", "val", "train") for name in names} <= result["metrics"].keys()
    assert {"test/worst_ratio", "car/spectral_norm", "car/ema_gap"} <= result["metrics"].keys()
    assert result.keys() >= {
        "schema", "best", "worst_class", "bound", "calibration", "epochs", "seed", "num_classes", "class_counts",
        "data", "timings", "versions", "hardware", "commit",
    }  # fmt: skip
    assert (result["epochs"], result["seed"], result["class_counts"]) == (3, 0, COUNTS)
    assert result["data"]["images"] == {"test": 500, "val": 200, "train": sum(COUNTS)}
    assert len(result["data"]["sha256"]) == 64
    assert result["timings"]["steps"] == 15
    assert result["versions"]["torch"] == torch.__version__.split("+")[0]


def test_tables_and_metrics_tell_the_same(finished: Path) -> None:
    with open(finished / paths.PER_CLASS, newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["class_id", "class_name", "train_count", "group", "test_count", "correct", "accuracy"]
    assert list(rows[0]) == columns
    assert [int(row["train_count"]) for row in rows] == COUNTS
    with np.load(finished / paths.CONFUSION) as cells:
        matrix = np.zeros((10, 10), dtype=int)
        matrix[cells["true"], cells["predicted"]] = cells["count"]
    assert [int(row["test_count"]) for row in rows] == matrix.sum(1).tolist() == [50] * 10
    assert [int(row["correct"]) for row in rows] == matrix.diagonal().tolist()
    metrics = read_result(finished)["metrics"]
    accuracy = [float(row["accuracy"]) for row in rows]
    assert metrics["test/accuracy"] == matrix.diagonal().sum() / 500
    assert metrics["test/worst_class"] == min(accuracy)
    for group in ("many", "medium", "few"):
        of_group = [value for value, row in zip(accuracy, rows, strict=True) if row["group"] == group]
        assert metrics[f"test/{group}"] == pytest.approx(sum(of_group) / len(of_group))


def test_the_calibration_bins_give_the_recorded_error(finished: Path) -> None:
    result = read_result(finished)
    for split, images in result["data"]["images"].items():
        bins = result["calibration"][split]
        filled = [values for values in zip(*bins.values(), strict=True) if values[0]]
        assert sum(n for n, *_ in filled) == images
        assert sum(n * right for n, _, right in filled) / images == pytest.approx(
            result["metrics"][f"{split}/accuracy"]
        )
        error = sum(n * abs(right - confidence) for n, confidence, right in filled) / images
        assert error == pytest.approx(result["metrics"][f"{split}/ece"])
        assert all(pair == [None, None] for n, *pair in zip(*bins.values(), strict=True) if not n)


def test_the_worst_class_is_the_rarest_of_the_worst(finished: Path) -> None:
    with open(finished / paths.PER_CLASS, newline="") as file:
        rows = list(csv.DictReader(file))
    worst = min(rows, key=lambda row: (float(row["accuracy"]), int(row["train_count"])))
    found = read_result(finished)["worst_class"]
    assert (found["name"], found["train_count"]) == (worst["class_name"], int(worst["train_count"]))


def test_the_ratio_is_of_the_worst_class_on_test_to_that_in_training(finished: Path) -> None:
    metrics = read_result(finished)["metrics"]
    worst = metrics["test/worst_class"], metrics["train/worst_class"]
    expected = worst[0] / worst[1] if worst[1] else None
    assert metrics["test/worst_ratio"] == expected


def test_the_norms_are_those_of_the_recorded_margin_confusions(finished: Path) -> None:
    result = read_result(finished)
    m = np.array(COUNTS) / sum(COUNTS)
    weight = (m + 0.2) ** -0.5
    with np.load(finished / paths.MARGIN_CONFUSION) as cells:
        for split, images in (("test", np.full(10, 50)), ("train", np.array(COUNTS))):
            matrix = np.zeros((10, 10))
            matrix[cells[f"{split}_true"], cells[f"{split}_rival"]] = cells[f"{split}_count"]
            matrix = weight[:, None] * matrix / images[:, None]
            metrics = result["metrics"]
            assert metrics[f"{split}/spectral_norm"] == pytest.approx(np.linalg.norm(matrix, 2))
            assert metrics[f"{split}/weighted_worst_error"] == pytest.approx(matrix.sum(1).max())
            assert not matrix.diagonal().any()
    assert metrics["test/worst_margin_error"] >= 1 - metrics["test/worst_class"] - 1e-9


def test_the_terms_of_the_bound_belong_to_the_worst_class(finished: Path) -> None:
    result = read_result(finished)
    bound, worst = result["bound"], result["worst_class"]
    assert bound["error"] == 1 - worst["test_accuracy"]
    assert bound["lambda"] == pytest.approx((COUNTS[worst["class_id"]] / sum(COUNTS) + 0.2) ** -0.5)
    assert bound["first_term"] == pytest.approx(bound["nu"] / bound["lambda"] * bound["spectral_norm"])
    assert bound["spectral_norm"] == result["metrics"]["train/spectral_norm"]
    assert bound["remainder"] == pytest.approx(bound["error"] - bound["first_term"])


def test_plots_are_pictures(finished: Path) -> None:
    for path in (finished / "plots").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_config_is_complete_and_plain(finished: Path) -> None:
    text = (finished / paths.CONFIG).read_text()
    assert "${" not in text
    config = OmegaConf.create(text)
    validate(config)
    assert (config.trainer.max_epochs, config.reg._target_, config.seed) == (3, "carlt.reg.CAR", 0)
    assert config.run_hash == read_result(finished)["run_hash"] == run_hash(config, config.data_sha256)


@pytest.mark.parametrize("which", ["last", "best"])
def test_evaluate_finds_the_same_test_metrics(which: str, finished: Path) -> None:
    result = read_result(finished)
    recorded = result["metrics"] if which == "last" else result["best"]["metrics"]
    found = evaluate_checkpoint(finished, which)
    assert found["metrics"] == {name: recorded[name] for name in found["metrics"]}
    assert found["metrics"].keys() >= {"test/accuracy", "test/worst_class", "test/ece"}
    assert found["epoch"] == (2 if which == "last" else result["best"]["epoch"])


def test_evaluate_prints_metrics_as_json(finished: Path, command: Command) -> None:
    path = paths.checkpoint(finished, "best")
    _, said, told = command("evaluate", f"run={finished}", f"which={path}")
    best = read_result(finished)["best"]
    assert told.splitlines()[0] == f"{path} (epoch {best['epoch'] + 1})"
    assert json.loads(said) == best["metrics"]


def test_evaluate_prints_percent_in_a_terminal(
    finished: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, said, _ = command("evaluate", f"run={finished}")
    lines = [" ".join(line.split()) for line in said.splitlines()]
    metrics = read_result(finished)["metrics"]
    assert f"overall {100 * metrics['test/accuracy']:.1f} %" in lines
    assert f"classes at 0 {metrics['test/classes_at_zero']:.1f}" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=nowhere"], "run=nowhere does not exist"),
        (["which=last"], "run=<run folder> is missing"),
        (["rum=x"], "'rum=x' is none of run=, which=, trust=, posthoc=, tau="),
        (
            ["run={finished}", "which=nowhere.ckpt"],
            "which=nowhere.ckpt: there is no checkpoint nowhere.ckpt; choose last, best or a file",
        ),
    ],
)
def test_evaluate_s_mistakes(arguments: list[str], message: str, finished: Path, command: Command) -> None:
    code, _, errors = command("evaluate", *(argument.format(finished=finished) for argument in arguments))
    assert code == 2
    assert errors.startswith(f"carlt.evaluate: error: {message}")


def test_a_checkpoint_of_another_network_is_refused(finished: Path, run, tmp_path: Path) -> None:
    run(tmp_path, "model.width=8", "reg=none", "trainer.max_epochs=1")
    with pytest.raises(CarltError, match="does not fit the network of"):
        evaluate_checkpoint(finished, str(paths.checkpoint(tmp_path, "last")))


def test_a_weight_of_zero_is_the_baseline(run, tmp_path: Path) -> None:
    off = run(tmp_path / "off", "reg=car", "reg.weight=0")["metrics"]
    none = run(tmp_path / "none", "reg=none")["metrics"]
    assert {name: off[name] for name in none} == pytest.approx(none, nan_ok=True, abs=0)


def test_the_seed_decides_everything(run, finished: Path, tmp_path: Path) -> None:
    same, other = run(tmp_path / "same", "reg=car"), run(tmp_path / "other", "reg=car", "seed=1")
    recorded = read_result(finished)
    clockless = [name for name, value in recorded["metrics"].items() if name != "car/time_share" and value is not None]
    assert [same["metrics"][name] for name in clockless] == [recorded["metrics"][name] for name in clockless]
    assert other["metrics"]["train/ece"] != recorded["metrics"]["train/ece"]
    assert other["data"]["sha256"] == recorded["data"]["sha256"]  # but not the split


def test_the_ratio_and_the_examples_are_the_last_epoch_s(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the best epoch, whose metrics are taken before, is another network: here one without weights."""

    def forget(module: Any, state: Any) -> None:
        for weight in module.parameters():
            weight.data.zero_()

    monkeypatch.setattr("carlt.evaluation.result.load_whole", forget)
    result = run(tmp_path, "reg=none", "data.imbalance_factor=2", "trainer.max_epochs=3")
    metrics = result["metrics"]
    assert result["best"]["metrics"]["test/accuracy"] == 0.1
    assert 0 < metrics["test/worst_class"] != metrics["train/worst_class"] > 0
    assert metrics["test/worst_ratio"] == metrics["test/worst_class"] / metrics["train/worst_class"]
    shown = {str(words[0]).partition(", ")[2] for words in read_examples(tmp_path).captions.reshape(-1, 2) if words[0]}
    assert shown != {"10 %"}  # of a network that knows nothing


def test_a_ratio_without_denominator_is_null(run, tmp_path: Path) -> None:
    result = run(tmp_path, "reg=none", "trainer.max_epochs=1")
    assert result["metrics"]["train/worst_class"] == 0
    assert math.isnan(result["metrics"]["test/worst_ratio"])
    assert json.loads((tmp_path / paths.RESULT).read_text())["metrics"]["test/worst_ratio"] is None
