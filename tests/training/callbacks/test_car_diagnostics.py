from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from torch import nn

from carlt.reg import CAR
from carlt.runs import paths
from carlt.training.callbacks import CarDiagnostics, read_rows
from carlt.training.callbacks.car_diagnostics import Stopwatch


class Module(nn.Module):
    """Images (N, C) that are their own logits, and CAR."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.reg, self.model = CAR([5, 4, 3]), nn.Dropout(0.5)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        return images


@pytest.mark.parametrize(("scale", "gap"), [(1.0, 0.0), (2.0, 1.0), (0.0, 1.0), (0.5, 0.5)])
def test_gap_to_the_confusion_of_the_training_set(scale: float, gap: float) -> None:
    module = Module()
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(6, 3, generator=generator), torch.tensor([0, 0, 1, 1, 2, 2])) for _ in range(2)]
    data = SimpleNamespace(evaluation_loader=lambda split: batches, splits=SimpleNamespace(train=None))
    diagnostics = CarDiagnostics()
    diagnostics.setup(SimpleNamespace(), module, "fit")
    module.reg.confusion.copy_(scale * module.reg.true_confusion(batches))
    found = diagnostics.ema_gap(SimpleNamespace(datamodule=data, precision_plugin=Precision()), module)
    assert found == pytest.approx(gap, abs=1e-6)  # so dropout was off
    assert module.training


def test_the_gap_is_measured_in_the_precision_of_training() -> None:
    module, seen = Module(), []
    module.model = nn.Linear(3, 3)
    module.model.register_forward_hook(lambda network, inputs, logits: seen.append(logits.dtype))
    batches = [(torch.randn(3, 3), torch.tensor([0, 1, 2]))]
    data = SimpleNamespace(evaluation_loader=lambda split: batches, splits=SimpleNamespace(train=None))
    diagnostics = CarDiagnostics()
    diagnostics.setup(SimpleNamespace(), module, "fit")
    trainer = SimpleNamespace(datamodule=data, precision_plugin=MixedPrecision("bf16-mixed", "cpu"))
    assert diagnostics.ema_gap(trainer, module).dtype == torch.float32
    assert seen == [torch.bfloat16]


def test_measuring_changes_nothing_in_training(run, finished: Path, tmp_path: Path) -> None:
    run(tmp_path, "reg=car", "~callbacks.car")
    states = [torch.load(paths.checkpoint(folder, "last"), weights_only=True) for folder in (finished, tmp_path)]
    assert all(torch.equal(states[0]["state_dict"][name], w) for name, w in states[1]["state_dict"].items())


def test_the_share_of_a_step_is_a_share(finished: Path) -> None:
    assert all(0 < row["car/time_share"] < 1 for row in read_rows(finished / paths.METRICS))


@pytest.mark.parametrize(("every", "epochs"), [(2, [1, 2]), (0, [])])
def test_the_gap_is_measured_now_and_then_and_at_the_end(every: int, epochs: list[int], run, tmp_path: Path) -> None:
    run(tmp_path, f"callbacks.car.gap_every_n_epochs={every}")
    assert [row["epoch"] for row in read_rows(tmp_path / paths.METRICS) if "car/ema_gap" in row] == epochs


def test_steps_that_car_left_out_are_warned_of_once() -> None:
    module: Any = nn.Module()
    module.reg, module.device, logged = CAR([5, 4, 3]), torch.device("cpu"), {}
    module.log = lambda name, value: logged.update({name: float(value)})
    trainer: Any = SimpleNamespace(current_epoch=0, max_epochs=9)
    diagnostics = CarDiagnostics(gap_every_n_epochs=0)
    diagnostics.setup(trainer, module, "fit")
    diagnostics.on_train_start(trainer, module)
    for _ in range(2):
        module.reg(torch.full((2, 3), torch.nan), torch.tensor([0, 1]))
    with pytest.warns(UserWarning, match="CAR left out 2 steps with non-finite logits in epoch 1"):
        diagnostics.on_train_epoch_end(trainer, module)
    diagnostics.on_train_epoch_end(trainer, module)  # and not again; warnings are errors here
    assert logged["car/skipped_steps"] == 2


def test_a_stopwatch_sums_what_lies_between_start_and_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    watch = Stopwatch(torch.device("cpu"))
    for seconds in (0.25, 0.5):
        watch.start()
        clock[0] += seconds
        watch.stop()
        clock[0] += 7
    assert watch.total() == 0.75


def test_nothing_is_timed_without_car() -> None:
    diagnostics = CarDiagnostics()
    diagnostics.setup(None, SimpleNamespace(reg=torch.nn.Identity()), "fit")  # type: ignore[arg-type]
    diagnostics.on_train_batch_start()  # there is no stopwatch, and no list of events that grows
    diagnostics.on_train_batch_end()


def test_parts_that_a_network_holds_in_eval_mode_stay_there() -> None:
    module = Module()
    module.model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3).eval())
    batches = [(torch.randn(3, 3), torch.tensor([0, 1, 2]))]
    data = SimpleNamespace(evaluation_loader=lambda split: batches, splits=SimpleNamespace(train=None))
    diagnostics = CarDiagnostics()
    diagnostics.setup(SimpleNamespace(), module, "fit")
    diagnostics.ema_gap(SimpleNamespace(datamodule=data, precision_plugin=Precision()), module)
    assert [part.training for part in module.model] == [True, False]
    assert module.training
