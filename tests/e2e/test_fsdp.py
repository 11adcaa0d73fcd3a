"""``trainer=fsdp``: what it shares out, what it refuses, and a small transformer on two CPU processes."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

import carlt
from carlt.config.instantiate import build
from carlt.config.overrides import compose_checked
from carlt.errors import CarltError
from carlt.runs import paths
from carlt.runs.record import read_result
from carlt.training import sharding
from carlt.training.callbacks import read_checkpoint, read_rows

DEVICES = 8


@pytest.fixture
def mesh() -> Iterator[Any]:
    """Eight devices of which only this process exists."""
    dist.init_process_group("fake", rank=0, world_size=DEVICES, store=FakeStore())
    yield init_device_mesh("cpu", (DEVICES,))
    dist.destroy_process_group()


def test_vit_large_is_shared_out(mesh: Any) -> None:
    config = compose_checked("train", ["trainer=fsdp", "model=vit_large", "data=imagenet_lt", "data.root=x"])
    assert type(sharding.strategy(config.trainer.strategy)) is sharding.FullySharded
    with torch.device("meta"):
        network = build(config, "model", num_classes=1000, image_size=224)
    whole = sum(value.numel() for value in network.parameters())
    assert whole > 3e8
    shapes = {name: value.shape for name, value in network.named_parameters()}
    sharding.shard(network, mesh)
    sharding.shard(network, mesh)  # evaluation does so again
    assert {name: value.shape for name, value in network.named_parameters()} == shapes
    own = sum(value.to_local().numel() for value in network.parameters())
    assert own == pytest.approx(whole / DEVICES, rel=0.01)
    assert all(type(block).__name__ == "FSDPBlock" for block in network.blocks)


@pytest.mark.parametrize("name", ["swin_tiny", "timm family=vit model.name=convnext_atto"])
def test_blocks_within_stages_are_shared_out(name: str, mesh: Any) -> None:
    words = [f"model={name.split()[0]}", *name.split()[1:]]
    config = compose_checked("train", ["trainer=fsdp", *words, "data=imagenet_lt", "data.root=x"])
    with torch.device("meta"):
        network = build(config, "model", num_classes=1000, image_size=224)
    whole = sum(value.numel() for value in network.parameters())
    sharding.shard(network, mesh)
    assert sum(value.to_local().numel() for value in network.parameters()) == pytest.approx(whole / DEVICES, rel=0.01)


VIT = ("model=timm", "family=vit", "model.name=test_vit", "data.image_size=32")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "batch normalisation would have statistics"),
        ((*VIT, "loss=paco"), "loss=PaCo runs parts of the network"),
        ((*VIT, "aug=concutmix"), "aug.relabel runs parts of the network"),
        ((*VIT, "optim.ema_decay=0.9"), "optim.ema_decay keeps a whole copy"),
        ((*VIT, "trainer.compile=true"), "trainer.compile is not tested"),
        ((*VIT, "trainer.strategy=fsdp_cpu_offload"), "trainer.strategy=fsdp_cpu_offload: expected fsdp"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(words: tuple[str, ...], said: str, run, tmp_path: Path) -> None:
    with pytest.raises(CarltError, match=said) as error:
        run(tmp_path / "run", "trainer.strategy=fsdp", *words)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # four commands
def test_two_processes_train_as_one_and_go_on_exactly(tmp_path: Path) -> None:
    words = [*VIT, "aug=none", "optim.lr=0.001", "data.largest_class=99", "trainer.accelerator=cpu"]
    words += ["trainer.gradient_clip_val=1.0", "callbacks.car.gap_every_n_epochs=1"]

    def train(*more: str) -> None:
        command = [sys.executable, "-m", "carlt.train", *more]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    two = [*words, "trainer=fsdp", "trainer.devices=2", "data.batch_size=32"]
    train(*words, "data.batch_size=64", "trainer.max_epochs=2", "hydra.run.dir=one")
    train(*two, "trainer.max_epochs=2", "hydra.run.dir=two")
    train(*two, "trainer.max_epochs=1", "hydra.run.dir=resumed")
    train("resume=resumed", "trainer.max_epochs=2")

    one, both, resumed = (read_checkpoint(paths.checkpoint(tmp_path / n, "last")) for n in ("one", "two", "resumed"))
    assert one["state_dict"].keys() == both["state_dict"].keys()
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(both["state_dict"][name], value, rtol=1e-2, atol=1e-4, msg=name)
        assert torch.equal(resumed["state_dict"][name], both["state_dict"][name]), name
    rows = [read_rows(tmp_path / name / paths.METRICS) for name in ("two", "resumed")]
    assert [{k: v for k, v in row.items() if k != "car/time_share"} for row in rows[0]] == [
        {k: v for k, v in row.items() if k != "car/time_share"} for row in rows[1]
    ]
    result, alone = (read_result(tmp_path / name) for name in ("two", "one"))
    assert result["hardware"]["devices"] == 2
    for name in ("test/accuracy", "train/accuracy", "test/spectral_norm"):
        assert result["metrics"][name] == pytest.approx(alone["metrics"][name], rel=0.02), name
    trained = carlt.load_run(tmp_path / "two")
    assert trained.metrics["test/accuracy"] == result["metrics"]["test/accuracy"]
    assert trained.probabilities(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, 10)
