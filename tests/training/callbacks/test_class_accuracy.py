from types import SimpleNamespace

import pytest
import torch

from carlt.training.callbacks import ClassAccuracy


def test_counts_of_the_training_batches_are_logged_by_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carlt.training.callbacks.epoch_sums.goes_on_within_epoch", lambda trainer: False)
    logged: dict[str, float] = {}
    module = SimpleNamespace(
        device="cpu", class_counts=torch.tensor([101, 50, 3, 2]), log_dict=lambda values: logged.update(values)
    )
    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=lambda counts, reduce_op: counts))
    callback = ClassAccuracy()
    callback.on_train_start(trainer, module)
    callback.on_train_epoch_start(trainer, module)
    for labels, predictions in (([0, 0, 1], [0, 1, 1]), ([2, 2, 0], [2, 0, 0])):
        logits = torch.nn.functional.one_hot(torch.tensor(predictions), 4).float()
        callback.on_train_batch_end(trainer, module, {"logits": logits}, (None, torch.tensor(labels)), 0)
    callback.on_train_epoch_end(trainer, module)
    assert logged == pytest.approx(
        {  # class 0: 2 of 3, class 1: 1 of 1, class 2: 1 of 2, class 3: not seen and so in no mean
            "train_batches/accuracy": 4 / 6,
            "train_batches/worst_class": 1 / 2,
            "train_batches/many": 2 / 3,
            "train_batches/medium": 1.0,
            "train_batches/few": 1 / 2,
        }
    )
