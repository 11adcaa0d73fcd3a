"""Run folders of version 0.1 still load: their packages, classes and parameters have other names today."""

import shutil
from pathlib import Path

import pytest
import yaml

import carlt
from carlt.commands import run as run_module
from carlt.config.second_stage import compose_stage
from carlt.evaluation.evaluate import evaluate
from carlt.runs.reading import read_runs
from carlt.runs.record import read_result

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.mark.parametrize("name", ["run_0_1", "stage_0_1"])
def test_it_is_evaluated_and_loaded(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(FIXTURES / name, folder)
    assert "carlt.optim.SGD" in (folder / "config.yaml").read_text()
    recorded = read_result(folder)["metrics"]
    outcome = evaluate(folder)
    assert outcome["same_images"]
    assert outcome["metrics"]["test/accuracy"] == pytest.approx(recorded["test/accuracy"])
    assert carlt.load_run(folder).metrics == recorded


@pytest.mark.filterwarnings("ignore:The loaded checkpoint was produced with Lightning")  # newer than an old one
def test_it_is_resumed_with_its_loss(tmp_path: Path, resume) -> None:
    folder = tmp_path / "run"
    shutil.copytree(FIXTURES / "run_0_1", folder)
    assert resume(folder, "trainer.max_epochs=3")["epochs"] == 3
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["loss"]["effective_number_beta"], config["loss"]["drw_start"]) == (0.9999, 0.8)
    assert config["reg"]["_target_"] == "carlt.reg.SumOfRegularizers"
    assert config["sampler"]["_target_"] == "carlt.samplers.ClassAware"
    assert config["resumed"] == [{"from_epoch": 2, "values": {"trainer.max_epochs": 3}}]


def test_a_second_stage_starts_from_it(tmp_path: Path) -> None:
    words = ["stage=crt", f"init_run={FIXTURES / 'run_0_1'}", "trainer.max_epochs=1", "loss=ce"]
    composed = compose_stage("train", words)
    result = run_module.run(run_module.config_of_run(composed, composed.hydra), tmp_path / "stage")
    assert result["epochs"] == 1


def test_a_report_reads_it() -> None:
    runs, left_out = read_runs([FIXTURES])
    assert (len(runs), left_out) == (2, [])
