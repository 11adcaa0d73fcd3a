"""Every loss, second stage and post-hoc method learns the digits: the README says that it runs, this that it works."""

from pathlib import Path

import pytest
from tests.conftest import Command

from carlt.config.compose import options
from carlt.evaluation.evaluate import evaluate_posthoc
from carlt.evaluation.posthoc import METHODS
from carlt.runs.record import read_result

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_plots")]

CHANCE = 0.1
"""Ten classes, as many test images of each."""


@pytest.fixture(scope="module")
def first(run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first") / "run"
    run(folder, "reg=none", "trainer.max_epochs=60")
    return folder


@pytest.mark.parametrize("name", options("loss"))
def test_every_loss_is_far_above_chance_with_car(run, name: str, tmp_path: Path) -> None:
    result = run(tmp_path, f"loss={name}", "reg=car", "trainer.max_epochs=30")
    assert result["metrics"]["test/balanced_accuracy"] > 5 * CHANCE


@pytest.mark.parametrize("name", options("stage"))
def test_every_stage_keeps_what_the_first_learnt(first: Path, name: str, tmp_path: Path, command: Command) -> None:
    given = [f"stage={name}", f"init_run={first}", f"hydra.run.dir={tmp_path / 'run'}", "trainer.accelerator=cpu"]
    assert command("train", *given)[0] == 0
    assert read_result(tmp_path / "run")["metrics"]["test/balanced_accuracy"] > 3 * CHANCE


@pytest.mark.parametrize("name", METHODS)
def test_every_posthoc_method_keeps_it_too(first: Path, name: str) -> None:
    result, *_ = evaluate_posthoc(first, name)
    assert result["metrics"]["test/balanced_accuracy"] > 5 * CHANCE
