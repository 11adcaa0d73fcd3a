from pathlib import Path

import pytest

from carlt.config.compose import compose_config
from carlt.config.instantiate import build
from carlt.errors import CarltError
from carlt.training.build import build_data, build_module, build_trainer


@pytest.mark.parametrize(
    "override",
    [
        "trainer.max_epochs=0",
        "trainer.max_epochs=-1",
        "trainer.max_epochs=null",
        "++trainer.check_val_every_n_epoch=0",
        "++trainer.limit_train_batches=0",
    ],
)
def test_a_run_needs_epochs_with_steps_in_them(override: str, tmp_path: Path) -> None:
    with pytest.raises(CarltError, match=override.lstrip("+").split("=")[0]):
        build_trainer(compose_config("train", [override]), tmp_path, [])


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


@pytest.mark.parametrize(("size", "warned"), [(8, False), (64, False), (96, True)])
def test_a_network_for_small_images_warns_of_large_ones(
    size: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = compose_config("train", [f"data.image_size={size}"])
    data = build_data(config)
    build_module(config, data)
    expected = "SmallCNN is made for images of 32 pixels; at data.image_size=96 a step takes about 9 times as much time"
    assert (expected in caplog.text) == warned
