"""``carlt.evaluate`` at another place and on other test images: the same classes, the run's own groups."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tests.conftest import Command

from carlt.evaluation.evaluate import evaluate as evaluate_checkpoint
from carlt.evaluation.evaluate import evaluate_posthoc
from carlt.runs import paths
from carlt.runs.record import read_result

COUNTS = {"cat": 24, "dog": 12, "owl": 2}


def make(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """``root/<class>/<i>.png`` of random pixels."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng([seed, label, i]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on ``photos``, which has moved to ``moved`` since."""
    home = tmp_path_factory.mktemp("photos")
    make(home / "photos" / "train", COUNTS)
    make(home / "photos" / "test", {"cat": 4, "dog": 4}, seed=1)
    words = ("data=image_folder", f"data.root={home}/photos", "data.image_size=8", "data.num_workers=0")
    run(home / "run", *words, "trainer.precision=32-true", "channels_last=false", "trainer.max_epochs=1")
    (home / "photos").rename(home / "moved")
    return home / "run"


@pytest.fixture
def evaluate(trained: Path, command: Command) -> Callable[..., tuple[dict[str, Any], str]]:
    """``evaluate(*words, code=0)``: the metrics that the command prints, as strict JSON, and what it says beside them,
    after the line that names the checkpoint."""

    def call(*words: str, code: int = 0) -> tuple[dict[str, Any], str]:
        ended, said, errors = command("evaluate", f"run={trained}", *words)
        assert ended == code, errors

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is no JSON")

        checkpoint, _, rest = errors.partition("\n") if code == 0 else ("", "", errors)
        assert code or checkpoint == f"{trained}/checkpoints/last.ckpt (epoch 1)"
        return json.loads(said or "{}", parse_constant=refuse), rest

    return call


def test_at_another_place_the_numbers_are_those_of_the_record(trained: Path, evaluate: Callable) -> None:
    assert "photos: point it at a folder" in evaluate(code=2)[1]
    metrics, said = evaluate(f"data.root={trained.parent}/moved")
    recorded = read_result(trained)["metrics"]
    assert metrics == {name: recorded[name] for name in metrics}
    assert metrics.keys() >= {"test/accuracy", "test/worst_class", "test/many"}
    assert metrics["test/many"] is None  # no class has so many images; NaN would be no JSON
    assert said == ""


def test_other_test_images(trained: Path, evaluate: Callable, tmp_path: Path) -> None:
    recorded = read_result(trained)["metrics"]
    copy = shutil.copytree(trained.parent / "moved" / "test", tmp_path / "copy")
    metrics, said = evaluate(f"data.root={trained.parent}/moved", f"data.test_root={copy}")
    assert metrics == {name: recorded[name] for name in metrics}
    other = make(tmp_path / "other", {"cat": 30, "owl": 30}, seed=2)
    metrics, said = evaluate(f"data.root={trained.parent}/moved", f"data.test_root={other}")
    assert metrics["test/accuracy"] != recorded["test/accuracy"]
    assert said == "note: these are other images than those of the run's result.json\n"
    make(tmp_path / "more", {"cat": 3, "fox": 3})
    for root, wrong in ((tmp_path / "more", "more/fox is no class"), ("nowhere", "data.test_root not found")):
        words = (f"data.root={trained.parent}/moved", f"data.test_root={root}")
        assert wrong in evaluate(*words, code=2)[1]


def test_the_groups_are_those_of_the_training(trained: Path, evaluate: Callable, tmp_path: Path) -> None:
    make(tmp_path / "train", {"cat": 2, "dog": 2, "owl": 40})
    shutil.copytree(trained.parent / "moved" / "test", tmp_path / "test")
    metrics, _ = evaluate(f"data.root={tmp_path}", "data.val_ratio=0")
    recorded = read_result(trained)["metrics"]
    assert metrics == {name: recorded[name] for name in metrics}


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"cat": 9, "fox": 9, "owl": 9}, "class 1 is dog in the run and fox here (0 more differ)"),
        ({"cat": 9, "owl": 9}, "class 1 is dog in the run and owl here (1 more differ)"),
        (COUNTS | {"pig": 3}, "class 3 is missing in the run and pig here (0 more differ)"),
    ],
)
def test_other_classes_are_refused(
    counts: dict[str, int], said: str, trained: Path, evaluate: Callable, tmp_path: Path
) -> None:
    metrics, message = evaluate(f"data.root={make(tmp_path, counts)}", code=2)
    assert metrics == {}
    assert f"{trained} was trained on other classes than image_folder has here: {said}" in message


def test_tau_of_zero_is_the_trained_classifier(trained: Path) -> None:
    result, *_ = evaluate_posthoc(trained, "tau_norm", 0.0, overrides=[f"data.root={trained.parent}/moved"])
    recorded = {name: value for name, value in read_result(trained)["metrics"].items() if value is not None}
    found = {name: value for name, value in result["metrics"].items() if not math.isnan(value)}
    assert found == pytest.approx({name: recorded[name] for name in found})
    assert found.keys() >= {"test/accuracy", "test/ece", "val/ece"}


def test_a_run_of_several_gpus_is_evaluated_by_one_processor(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    config = yaml.safe_load((folder / paths.CONFIG).read_text())
    config["trainer"] |= {"accelerator": "gpu", "devices": 4, "num_nodes": 2, "strategy": "ddp"}
    (folder / paths.CONFIG).write_text(yaml.safe_dump(config))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recorded = read_result(folder)["metrics"]
    assert evaluate_checkpoint(folder)["metrics"]["test/accuracy"] == recorded["test/accuracy"]


def test_an_epoch_chosen_on_test_images_stays_so(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    config = yaml.safe_load((folder / paths.CONFIG).read_text())
    config["data"]["validation"] = "test"
    (folder / paths.CONFIG).write_text(yaml.safe_dump(config))
    assert evaluate_checkpoint(folder, "best", ["data.validation=split"])["chosen_on_test"]
    result, *_ = evaluate_posthoc(folder, "tau_norm", 1.0, "best", ["data.validation=split"])
    assert result["posthoc"]["chosen_on_test"]
    assert not evaluate_checkpoint(finished, "best", ["data.validation=test"])["chosen_on_test"]
