from pathlib import Path

import pytest

from carlt.assembly import build_data, build_trainer
from carlt.config import build, compose_config
from carlt.errors import CarltError


@pytest.mark.parametrize("epochs", ["0", "-1", "null"])
def test_a_run_needs_a_number_of_epochs(epochs: str, tmp_path: Path) -> None:
    with pytest.raises(CarltError, match=r"trainer\.max_epochs"):
        build_trainer(compose_config("train", [f"trainer.max_epochs={epochs}"]), tmp_path, [])


@pytest.mark.parametrize(
    "override",
    [
        "seed=-1",
        "seed=4294967296",
        "data.batch_size=0",
        "++data.eval_batch_size=0",
        "++data.num_workers=-1",
        "data.image_size=0",
        "++data.test_per_class=0",
        "data.imbalance_factor=0.5",
    ],
)
def test_a_value_out_of_range_names_its_key(override: str) -> None:
    key = override.lstrip("+").split("=")[0].split(".")[-1]
    with pytest.raises(CarltError, match=key):
        build_data(compose_config("train", [override]))


@pytest.mark.parametrize("override", ["optim.lr=-1", "optim.lr=0", "optim.lr=nan", "optim.weight_decay=-1"])
def test_an_optimizer_out_of_range_names_its_key(override: str) -> None:
    with pytest.raises(CarltError, match="optim: " + override.split(".")[1].split("=")[0]):
        build(compose_config("train", [override]), "optim")
