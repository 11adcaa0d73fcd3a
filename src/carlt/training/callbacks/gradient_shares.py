"""Where the gradients of loss and regularizer go: their shares by many-, medium- and few-shot classes."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from carlt.functional.accuracy import class_groups
from carlt.losses.base import NetworkLoss
from carlt.ranges import Count, checked
from carlt.training.callbacks.epoch_sums import EpochSums


class GradientShares(EpochSums):
    """Logs how the regularizer's gradient compares with the loss's, both with respect to the logits, each epoch.

    With g_q and h_q the gradients of loss and penalty at the logits of sample q, over the measured batches:

    gradient/loss_<group>    = sum of ||g_q|| over the group's samples / sum of ||g_q||
    gradient/penalty_<group> = the same of h
    gradient/ratio           = sum of ||h_q|| / sum of ||g_q||
    gradient/alignment       = sum of <g_q, h_q> / sqrt(sum of ||g_q||^2 * sum of ||h_q||^2), in [-1, 1]

    A mixed image belongs to the group of its first label. Nothing is logged for ``reg=none``, or for a loss that runs
    the network itself. A resumed epoch continues its sums.

    Args:
        every_n_steps: batches between two that are measured.
    """

    key = "carlt/gradient_shares"

    @checked
    def __init__(self, every_n_steps: Count = 10):
        self.every_n_steps = every_n_steps

    def zeros(self, module: Any) -> Tensor:
        """(3, 3): ||g_q|| and ||h_q|| by group; then <g, h>, ||g||^2 and ||h||^2."""
        return torch.zeros(3, 3, dtype=torch.float32)

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        super().on_train_start(trainer, module)
        groups = class_groups(module.class_counts).values()
        self.group = torch.stack(list(groups)).int().argmax(0).to(module.device)
        self.hooks, self.due = [], False
        self.of_loss: Tensor | None = None
        if not isinstance(module.loss, NetworkLoss):
            self.hooks = [
                module.loss.register_forward_hook(self._after_loss),
                module.reg.register_forward_hook(self._after_penalty),
            ]

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        for hook in self.hooks:
            hook.remove()

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        self.due, self.labels = batch_idx % self.every_n_steps == 0, batch[1]

    def _after_loss(self, _: Any, given: tuple[Tensor, Tensor], loss: Tensor) -> None:
        one_number = not loss.ndim and loss.requires_grad  # the training step refuses any other
        self.of_loss = _gradient(loss, given[0]) if self.due and one_number else None

    def _after_penalty(self, _: Any, given: tuple[Tensor, Tensor], penalty: Tensor) -> None:
        if self.of_loss is None or penalty.ndim or not penalty.requires_grad:
            return
        loss, penalty = self.of_loss, _gradient(penalty, given[0])
        group = self.group[self.labels.to(self.group.device)]
        for row, gradient in enumerate((loss, penalty)):
            self.sums[row].index_add_(0, group, torch.linalg.vector_norm(gradient, dim=1))
        self.sums[2] += torch.stack([(loss * penalty).sum(), loss.square().sum(), penalty.square().sum()])

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        loss, penalty, (inner, loss_square, penalty_square) = self.over_ranks(trainer)
        if not loss_square * penalty_square > 0:  # nothing was measured, or the penalty is zero
            return
        shown = {"ratio": penalty.sum() / loss.sum(), "alignment": inner / (loss_square * penalty_square).sqrt()}
        for place, name in enumerate(class_groups(module.class_counts)):
            shown[f"loss_{name}"] = loss[place] / loss.sum()
            shown[f"penalty_{name}"] = penalty[place] / penalty.sum()
        module.log_dict({f"gradient/{name}": float(value) for name, value in shown.items()})


def _gradient(value: Tensor, logits: Tensor) -> Tensor:
    """d value / d logits in float32 or better; the graph stays for the training step."""
    (gradient,) = torch.autograd.grad(value, logits, retain_graph=True)
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))
