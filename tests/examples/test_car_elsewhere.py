"""CAR in the loops of others (``examples/``): with mixed precision, gradient accumulation and a compiled network."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carlt import CAR

EXAMPLES = Path(__file__).parents[2] / "examples"
# aot_eager captures the graph and its gradients as inductor does, and needs no compiler of C++.
BACKEND = "aot_eager"
BATCH = 64
BATCHES, STEPS = 6, 3
"""Of an epoch; with two batches per step."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),  # lightning's use of torch
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """``example(name)``: the module of an example."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every step of an AdamW."""
    found: list[int] = []
    real = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, *args, **options: found.append(1) or real(self, *args, **options)
    )
    return found


def check(car: CAR, batches: int) -> None:
    """CAR saw each training batch once, no other batch, and computed in float32."""
    assert car.updates.max() == batches
    assert car.confusion.dtype == torch.float32
    assert car.confusion.sum() > 0
    assert car.skipped_steps == 0


def weights(network: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(network.parameters()).detach()


def test_plain_pytorch(example: Callable, steps: list[int], tmp_path: Path) -> None:
    train = example("plain_pytorch").train
    path = tmp_path / "last.pt"
    result = train(2, BATCH, "bfloat16", accumulate=2, compile=BACKEND, checkpoint=path)
    check(result["car"], 2 * BATCHES)
    assert len(steps) == 2 * STEPS
    assert result["accuracy"].shape == (10,)
    saved = torch.load(path, weights_only=True)
    assert torch.equal(saved["car"]["confusion"], result["car"].confusion)
    assert set(saved["network"]) == set(train(0)["network"].state_dict())  # no prefix of a wrapper
    without, with_car = (train(1, BATCH, weight=weight)["network"] for weight in (0.0, 1.0))
    assert not torch.equal(weights(without), weights(with_car))


def test_lightning(example: Callable, steps: list[int], tmp_path: Path) -> None:
    train = example("lightning_module").train
    module, trainer = train(2, BATCH, "bf16-mixed", accumulate=2, compile=BACKEND, folder=tmp_path)
    check(module.car, 2 * BATCHES)
    assert len(steps) == trainer.global_step == 2 * STEPS
    assert set(trainer.callback_metrics) == {"test/accuracy", "test/worst_class"}
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    again = type(module).load_from_checkpoint(checkpoint, weights_only=True)
    assert torch.equal(again.car.confusion, module.car.confusion)
    without, with_car = (
        train(1, BATCH, weight=weight, folder=tmp_path / str(weight))[0].network for weight in (0.0, 1.0)
    )
    assert not torch.equal(weights(without), weights(with_car))


@pytest.mark.slow
def test_timm(example: Callable, steps: list[int]) -> None:
    main = example("timm_script").main
    words = ["--model=test_resnet", "--epochs=1", "--warmup-epochs=0", f"--batch-size={BATCH}"]
    extras = ["--amp", "--mixup=0.2", "--grad-accum-steps=2", f"--torchcompile={BACKEND}", "--model-ema-decay=0.9"]
    result = main([*words, *extras])
    check(result["car"], BATCHES - 1)  # timm's loaders drop the last batch of a training
    assert len(steps) == STEPS
    assert result["accuracy"].shape == (10,)
    without, with_car = (main([*words, f"--car-weight={weight}"])["model"] for weight in (0, 1))
    assert not torch.equal(weights(without), weights(with_car))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:mtime may not be reliable")  # transformers 5.0, of checkpoints within a second
def test_hugging_face(example: Callable, steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("transformers", "accelerate"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'carlt[examples]'")
    make_trainer = example("hugging_face").make_trainer
    trainer = make_trainer(1, BATCH, bf16=True, accumulate=2, compile=BACKEND, folder=tmp_path)
    losses: list[float] = []
    backward = trainer.accelerator.backward
    monkeypatch.setattr(trainer.accelerator, "backward", lambda loss: losses.append(loss.item()) or backward(loss))
    whole: list[float] = []
    compute = trainer.compute_loss

    def compute_loss(*args: Any, **kwargs: Any) -> Tensor:
        whole.append(compute(*args, **kwargs))
        return whole[-1]

    monkeypatch.setattr(trainer, "compute_loss", compute_loss)
    trainer.train()
    assert losses == pytest.approx([loss.item() / 2 for loss in whole])  # the Trainer averages over the two batches
    monkeypatch.undo()
    assert {"eval_accuracy", "eval_worst_class"} <= set(trainer.evaluate())
    check(trainer.car, BATCHES)
    assert trainer.state.global_step == STEPS

    checkpoint = tmp_path / f"checkpoint-{STEPS}"
    resumed = make_trainer(2, BATCH, accumulate=2, folder=tmp_path)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    check(resumed.car, 2 * BATCHES)

    trained = []
    for weight in (0.0, 1.0):
        one = make_trainer(1, BATCH, weight=weight, folder=tmp_path / str(weight))
        one.train()
        trained.append(weights(one.model))
    assert not torch.equal(*trained)
