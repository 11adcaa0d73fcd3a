"""optim.ema_decay: what is evaluated, loaded, adjusted and trained further is the running mean of the weights."""

from pathlib import Path

import pytest
import torch

import carlt
from carlt.commands import run as run_module
from carlt.config.second_stage import compose_stage
from carlt.evaluation.evaluate import evaluate, evaluate_posthoc
from carlt.models import SmallCNN
from carlt.runs import paths
from carlt.runs.record import read_result


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mean") / "run"
    run(place, "model.width=4", "optim.ema_decay=0.9", "trainer.max_epochs=2")
    return place


def weights(folder: Path, beginning: str) -> dict[str, torch.Tensor]:
    state = torch.load(paths.checkpoint(folder, "last"), weights_only=True)["state_dict"]
    return {name.removeprefix(beginning): value for name, value in state.items() if name.startswith(beginning)}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_use_of_a_run_takes_the_mean(folder: Path) -> None:
    mean, last = weights(folder, "average.module."), weights(folder, "model.")
    assert mean.keys() == last.keys()
    assert not same(mean, last)
    assert same(carlt.load_run(folder).model.model.state_dict(), mean)
    given = SmallCNN(10, in_channels=1, width=4, weights=str(paths.checkpoint(folder, "last")))
    assert same(given.state_dict(), mean)

    accuracy = read_result(folder)["metrics"]["test/accuracy"]
    assert evaluate(folder)["metrics"]["test/accuracy"] == accuracy
    adjusted, *_ = evaluate_posthoc(folder, "logit_adjusted", tau=0.0)
    assert adjusted["metrics"]["test/accuracy"] == accuracy


def test_a_second_stage_begins_with_the_mean(folder: Path, tmp_path: Path) -> None:
    words = ["stage=crt", f"init_run={folder}", "trainer.max_epochs=1"]
    composed = compose_stage("train", words)
    run_module.run(run_module.config_of_run(composed, composed.hydra), tmp_path / "stage")
    mean = {name: value for name, value in weights(folder, "average.module.").items() if name.startswith("features")}
    given = weights(tmp_path / "stage", "model.backbone.")
    statistics = [name for name in mean if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    for name in statistics:  # cRT's batch norm goes on learning them, as released
        del mean[name], given[name]
    assert same(given, mean)


def test_car_s_gap_is_of_the_network_that_car_follows(folder: Path) -> None:
    assert read_result(folder)["metrics"]["car/ema_gap"] < 1
