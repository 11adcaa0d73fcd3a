"""carlt from Python: ``carlt.train``, ``carlt.load_run``, and what each import brings along."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import carlt
from carlt.commands import run as run_module
from carlt.errors import CarltError
from carlt.runs.record import read_result

pytestmark = pytest.mark.usefixtures("no_plots")


def test_train_and_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = carlt.train("data=digits_lt", "reg=car", "trainer.max_epochs=1", "trainer.accelerator=cpu")
    folder = Path(result["folder"])
    assert folder.parent == tmp_path / "runs" / "digits_lt"
    assert folder.name.endswith(result["run_hash"][:8])
    assert {name: value for name, value in result.items() if name != "folder"}.keys() == read_result(folder).keys()
    named = carlt.train("trainer.max_epochs=1", "trainer.accelerator=cpu", folder=tmp_path / "here")
    assert Path(named["folder"]) == tmp_path / "here"
    with pytest.raises(CarltError, match=r"here holds a run.* or choose another folder"):
        carlt.train("trainer.max_epochs=1", folder=tmp_path / "here")
    with pytest.raises(CarltError, match="a resumed run stays in its folder"):
        carlt.train(resume=tmp_path / "here", folder=tmp_path / "there")


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_hydra_folder", lambda _: tmp_path / "digits_20261125-120000")
    short = ("trainer.max_epochs=1", "trainer.accelerator=cpu", "model.width=4")
    results = [carlt.train(f"reg.weight={weight}", *short) for weight in (0.1, 2)]
    assert [Path(result["folder"]).name for result in results] == [
        f"digits_20261125-120000_{result['run_hash'][:8]}" for result in results
    ]
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(CarltError, match="holds a run"):
        carlt.train("reg.weight=2", *short)


def test_a_mistake_is_one_error() -> None:
    with pytest.raises(CarltError, match="did you mean car"):
        carlt.train("reg=cra")


def test_a_loaded_run_predicts_what_the_record_says(finished: Path, tmp_path: Path) -> None:
    from carlt.data import DigitsLT

    run = carlt.load_run(finished)
    data = DigitsLT(view=run.transform, eval_view=run.transform, image_size=run.config.data.image_size)
    test = data.splits.test
    predicted = run.probabilities(test.images.pixels).argmax(1)
    accuracy = (predicted == test.targets).double().mean().item()
    assert accuracy == pytest.approx(run.metrics["test/accuracy"])
    assert run.class_names == data.class_names
    assert torch.equal(run.class_counts, data.class_counts)
    assert not run.model.training
    with pytest.raises(CarltError, match="is no run folder"):
        carlt.load_run(tmp_path)


IMPORTS = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Block())
{program}
"""
OTHERS = {"lightning", "torchmetrics", "torchvision", "hydra", "omegaconf", "timm", "wandb", "sklearn", "matplotlib"}


@pytest.mark.parametrize(
    ("program", "blocked"),
    [
        ("import carlt; assert 'train' in dir(carlt); assert 'torch' not in sys.modules", OTHERS | {"torch"}),
        (
            "import carlt; assert callable(carlt.train)\nfrom carlt.train import main; assert callable(carlt.train)",
            set(),
        ),
        ("import carlt.train; assert callable(carlt.train); assert carlt.train.main", {""}),
    ],
)
def test_imports(program: str, blocked: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS.format(blocked=blocked, program=program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
