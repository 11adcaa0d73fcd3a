"""Training from given weights: the file is read once, and its normalisation stays with the run."""

from pathlib import Path

import pytest
import torch

import carlt
from carlt.commands import run as run_module
from carlt.config.second_stage import compose_stage
from carlt.evaluation.evaluate import evaluate
from carlt.models import timm_model
from carlt.runs import paths


def normalisation(folder: Path) -> tuple[float, float]:
    state = torch.load(paths.checkpoint(folder, "last"), weights_only=True)["state_dict"]
    return state["mean"].item(), state["std"].item()


@pytest.mark.slow
def test_the_normalisation_of_initial_weights_goes_with_the_run(finished: Path, run, resume, tmp_path: Path) -> None:
    weights = torch.load(paths.checkpoint(finished, "last"), weights_only=True)
    weights["state_dict"] |= {"mean": torch.full((1, 1, 1), 0.25), "std": torch.full((1, 1, 1), 0.5)}
    file = tmp_path / "given.ckpt"
    torch.save(weights, file)
    folder = tmp_path / "run"
    result = run(folder, "trainer.max_epochs=1", f"model.weights={file}")
    assert normalisation(folder) == (0.25, 0.5)

    file.unlink()
    assert evaluate(folder)["metrics"]["test/accuracy"] == pytest.approx(result["metrics"]["test/accuracy"])
    assert carlt.load_run(folder).model.mean.item() == 0.25
    resume(folder, "trainer.max_epochs=2")
    assert normalisation(folder) == (0.25, 0.5)
    composed = compose_stage("train", ["stage=crt", f"init_run={folder}", "trainer.max_epochs=1"])
    run_module.run(run_module.config_of_run(composed, composed.hydra), tmp_path / "stage")
    assert normalisation(tmp_path / "stage") == (0.25, 0.5)


@pytest.mark.slow
def test_an_adapter_on_a_file_of_weights_is_a_run_that_needs_the_file_no_more(run, resume, tmp_path: Path) -> None:
    given = timm_model("test_vit", 3, in_channels=1, image_size=32)
    file, folder = tmp_path / "vit.pt", tmp_path / "run"
    torch.save(given.state_dict(), file)
    words = ("model=timm", "model.name=test_vit", "family=vit", "model.adapter=adaptformer", "recipe=adapter")
    run(folder, *words, f"model.weights={file}", "data.image_size=32", "optim.layer_decay=0.8", "trainer.max_epochs=1")
    file.unlink()
    result = resume(folder, "trainer.max_epochs=2")
    loaded = carlt.load_run(folder)
    assert evaluate(folder)["metrics"]["test/accuracy"] == pytest.approx(result["metrics"]["test/accuracy"])
    assert torch.equal(loaded.model.model.blocks[0].attn.qkv.weight, given.blocks[0].attn.qkv.weight)
    assert loaded.model.model.blocks[0].mlp.up.weight.any()
