"""The shares of the gradients by group: against autograd sample by sample, and in a run."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from carlt.losses import CrossEntropy
from carlt.reg import CAR
from carlt.runs import paths
from carlt.training.callbacks import GradientShares, read_rows

COUNTS = torch.tensor([500, 50, 5])


class Module(nn.Module):
    device = torch.device("cpu")
    class_counts = COUNTS

    def __init__(self) -> None:
        super().__init__()
        self.loss, self.reg, self.logged = CrossEntropy(COUNTS), CAR(COUNTS, weight=2.0), {}

    def log_dict(self, values: dict[str, float]) -> None:
        self.logged = values


def test_shares_are_those_of_a_loop_over_samples() -> None:
    module, plain, shares = Module(), Module(), GradientShares(every_n_steps=2)
    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=lambda value, reduce_op: value), is_global_zero=True)
    generator = torch.Generator().manual_seed(0)
    shares.on_train_start(trainer, module)
    norms, inner, squares = torch.zeros(2, 3), 0.0, torch.zeros(2)
    for step in range(4):
        logits = torch.randn(6, 3, generator=generator, requires_grad=True)
        labels = torch.randint(0, 3, (6,), generator=generator)
        shares.on_train_batch_start(trainer, module, (None, labels), step)
        total = module.loss(logits, labels) + module.reg(logits, labels)
        total.backward()  # the graph is still there
        loss, penalty = plain.loss(logits, labels), plain.reg(logits, labels)
        if step % 2 == 0:
            g, h = (torch.autograd.grad(part, logits)[0] for part in (loss, penalty))
            for q, label in enumerate(labels.tolist()):
                norms[0, label] += g[q].norm()
                norms[1, label] += h[q].norm()
            inner, squares = inner + float((g * h).sum()), squares + torch.stack([(g * g).sum(), (h * h).sum()])
    shares.on_train_epoch_end(trainer, module)
    expected = {"ratio": norms[1].sum() / norms[0].sum(), "alignment": inner / squares.prod().sqrt()}
    for row, part in enumerate(("loss", "penalty")):
        expected |= {
            f"{part}_{group}": norms[row, c] / norms[row].sum() for c, group in enumerate(("many", "medium", "few"))
        }
    assert module.logged == {
        f"gradient/{name}": pytest.approx(float(value), rel=1e-5) for name, value in expected.items()
    }
    shares.on_train_end(trainer, module)
    assert not module.loss._forward_hooks
    assert not module.reg._forward_hooks


def test_a_run_records_them_each_epoch(finished: Path) -> None:
    for row in read_rows(finished / paths.METRICS):
        assert row["gradient/ratio"] > 0
        assert abs(row["gradient/alignment"]) <= 1
        for part in ("loss", "penalty"):
            assert sum(row[f"gradient/{part}_{group}"] for group in ("many", "medium", "few")) == pytest.approx(1)


@pytest.mark.parametrize("options", [("reg=none",), ("reg=car", "loss=ride")])
def test_nothing_is_recorded_without_a_penalty_or_with_a_loss_that_runs_the_network(options, run, tmp_path) -> None:
    run(tmp_path / "run", "trainer.max_epochs=1", *options)
    assert not [name for name in read_rows(tmp_path / "run" / paths.METRICS)[0] if name.startswith("gradient/")]
