"""Two processes train and report what one does on batches of twice the size: every regularizer, sampler and second
stage that conf/ has, and every number of a run's record. Run as a script, this file is one of the processes.

The network has no batch normalisation, which on several CPU processes normalises each process's share.
"""

import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from carlt.commands.run import config_of_run
from carlt.commands.run import run as run_config
from carlt.config.compose import options
from carlt.config.overrides import compose_checked
from carlt.config.second_stage import compose_stage
from carlt.reporting import plots
from carlt.runs import paths
from carlt.runs.record import read_result
from carlt.training.callbacks import read_checkpoint, read_rows

pytestmark = pytest.mark.slow

BATCH = 64
NETWORK = ("model=timm", "family=vit", "model.name=test_vit", "data.image_size=32", "aug=none", "optim=sgd")
# The last batch of 284 images has 28, which two processes share evenly.
DATA = ("data.largest_class=99", "data.test_per_class=20", "data.val_per_class=10")
COMMON = ("trainer.accelerator=cpu", "callbacks.car.gap_every_n_epochs=1")
NEEDS = {
    "reg=several": ["reg=[car,confidence_penalty]"],
    # Their own losses are no means over images: they are of each process's share.
    "stage=disalign": ["stage=disalign", "loss=ce"],
    "stage=gml_nolb": ["stage=gml_nolb", "loss=ce"],
}
OF_THIS_MACHINE = {"car/time_share"}
CASES = [f"{group}={name}" for group in ("reg", "sampler", "stage") for name in options(group)]


def train(case: str, folder: Path, first: Path, devices: int) -> None:
    """A run of ``case`` into ``folder``; a second stage begins with the run in ``first``."""
    words = [*COMMON, f"trainer.devices={devices}", f"data.batch_size={BATCH // devices}"]
    words += ["trainer.strategy=ddp"] if devices > 1 else []
    words += NEEDS.get(case, [case])
    if case.startswith("stage="):
        config = compose_stage("train", [*words, f"init_run='{first}'", "trainer.max_epochs=2"])
    else:
        # Five epochs, so that a deferred sampler changes.
        words += [*NETWORK, *DATA, "optim.lr=0.01", "trainer.max_epochs=5"]
        config = compose_checked("train", words)
    run_config(config_of_run(config, config.hydra), folder)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with runs of every case, ``1/<case>`` of one process and ``2/<case>`` of two."""
    root = tmp_path_factory.mktemp("processes")
    first = root / "1" / "reg=none"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw_run", lambda run_dir: {})
        train("reg=none", first, first, devices=1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "WORLD_SIZE": "2"}
        ranks = [
            subprocess.Popen(
                [sys.executable, __file__, str(root)], env={**os.environ, **environment, "LOCAL_RANK": str(rank)}
            )
            for rank in range(2)
        ]
        try:
            for case in CASES:
                if case != "reg=none":
                    train(case, root / "1" / case, first, devices=1)
            assert [rank.wait(timeout=900) for rank in ranks] == [0, 0]
        finally:
            for rank in ranks:
                rank.kill()
    return root


def close(found: Any, expected: Any, place: str) -> None:
    """Nested numbers are equal up to rounding."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for name in expected:
            if name not in OF_THIS_MACHINE:
                close(found[name], expected[name], f"{place}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for k, (one, other) in enumerate(zip(found, expected, strict=True)):
            close(one, other, f"{place}[{k}]")
    elif isinstance(expected, float) and not math.isnan(expected):
        assert found == pytest.approx(expected, rel=2e-3, abs=1e-5), place
    elif not isinstance(expected, float):
        assert found == expected, place


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one(case: str, root: Path) -> None:
    one, two = (root / str(devices) / case for devices in (1, 2))
    expected, found = (read_checkpoint(paths.checkpoint(folder, "last"))["state_dict"] for folder in (one, two))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=lambda said, n=name: f"{n}: {said}")
    close(read_rows(two / paths.METRICS), read_rows(one / paths.METRICS), paths.METRICS)
    expected, found = read_result(one), read_result(two)
    assert found["hardware"].pop("devices") == 2 * expected["hardware"].pop("devices")
    for name in ("timings", "run_hash", "commit"):
        del expected[name], found[name]
    close(found, expected, paths.RESULT)


if __name__ == "__main__":
    plots.draw_run = lambda run_dir: {}
    folder = Path(sys.argv[1])
    for each in CASES:
        train(each, folder / "2" / each, folder / "1" / "reg=none", devices=2)
