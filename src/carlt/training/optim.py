"""Optimizers with their learning-rate schedules, built from a recipe for Lightning."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import nn, optim
from torch.optim.lr_scheduler import LambdaLR

from carlt.errors import CarltError
from carlt.protocols import ScalesLearningRate
from carlt.ranges import NonNegative, Positive, PositiveShare, Share, ShareBelowOne, checked


def lr_factor(
    epoch: float,
    epochs: int,
    schedule: str,
    warmup_epochs: float = 0.0,
    milestones: Sequence[float] = (),
    floor: float = 0.0,
    gamma: float = 0.1,
) -> float:
    """The multiple of the learning rate at ``epoch`` (fractional) of ``epochs``, in [0, 1].

    Linear from 0 over ``warmup_epochs``; then ``constant``, ``cosine`` from 1 down to ``floor`` (Loshchilov & Hutter,
    ICLR 2017, eq. 5), or ``multistep``: x ``gamma`` from each of ``milestones`` (fractions of ``epochs``) on.
    """
    if epoch < warmup_epochs:
        return epoch / warmup_epochs
    if schedule == "cosine":
        progress = (epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-9)
        return floor + (1 - floor) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    if schedule == "multistep":
        # Fractions, so a shortened run keeps its steps; the epsilon because 0.55 * 100 rounds above 55.
        return gamma ** sum(epoch >= milestone * epochs - 1e-6 for milestone in milestones)
    return 1.0


__all__ = ["SGD", "AdamW"]


class Optim:
    """An optimizer and a schedule that is stepped every batch.

    Args:
        lr: peak learning rate, for the global batch; it is never scaled automatically.
        weight_decay: of weights with two or more dimensions, and of the others too unless ``decay_all`` is False.
        schedule, warmup_epochs, milestones, gamma, min_lr: see ``lr_factor``; ``min_lr`` is the cosine's last value.
            LDAM-DRW, RIDE, VS and CMO have gamma 0.01 on CIFAR-LT; MiSLAS and ConCutMix have 0.1.
        layer_decay: factor on the learning rate for each layer below the classifier (BEiT, ICLR 2022); for
            fine-tuning, 0.65 to 0.85 is usual. Layers are those of timm's ``group_matcher``.
        ema_decay: of the exponential moving average (EMA) of the weights, which is evaluated in place of the last
            weights; 0.9999 is usual. The decay of step t is min(ema_decay, 1 - (1 + t)^(-2/3)). None: no EMA.

    A part of the network with its own rate is a ``carlt.protocols.ScalesLearningRate``.
    """

    @checked
    def __init__(
        self,
        lr: Positive,
        weight_decay: NonNegative = 0.0,
        schedule: Literal["constant", "cosine", "multistep"] = "cosine",
        warmup_epochs: NonNegative = 0.0,
        milestones: Sequence[Share] = (0.8, 0.9),
        gamma: PositiveShare = 0.1,
        min_lr: NonNegative = 0.0,
        decay_all: bool = True,
        layer_decay: PositiveShare = 1.0,
        ema_decay: ShareBelowOne | None = None,
    ):
        if min_lr > lr:
            raise CarltError(f"min_lr={min_lr} is more than lr={lr}: the schedule ends at min_lr; lower it")
        self.layer_decay, self.ema_decay = layer_decay, ema_decay
        self.lr, self.weight_decay, self.decay_all = lr, weight_decay, decay_all
        self.schedule, self.warmup_epochs, self.milestones, self.min_lr = schedule, warmup_epochs, milestones, min_lr
        self.gamma = gamma

    def optimizer(self, groups: list[dict[str, Any]]) -> optim.Optimizer:
        """The optimizer over parameter ``groups``."""
        raise NotImplementedError

    def configure(self, network: nn.Module, epochs: int, steps_per_epoch: int) -> dict[str, Any]:
        """What ``LightningModule.configure_optimizers`` returns."""
        scales = layer_scales(network, self.layer_decay)
        for part in network.modules():
            if isinstance(part, ScalesLearningRate):
                scales |= {id(p): scales.get(id(p), 1.0) * factor for p, factor in part.lr_factors().items()}
        groups = parameter_groups(network, self.weight_decay, self.decay_all, scales)
        optimizer = self.optimizer([{**group, "lr": self.lr * group["lr"]} for group in groups])
        scheduler = LambdaLR(optimizer, self._factor(epochs, steps_per_epoch))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _factor(self, epochs: int, steps_per_epoch: int) -> Callable[[int], float]:
        def factor(step: int) -> float:
            # step + 1 in warm-up, so that the first step has a positive rate.
            epoch = (step + (step < self.warmup_epochs * steps_per_epoch)) / steps_per_epoch
            return lr_factor(
                epoch, epochs, self.schedule, self.warmup_epochs, self.milestones, self.min_lr / self.lr, self.gamma
            )

        return factor


class SGD(Optim):
    """Stochastic gradient descent with momentum, and ``Optim``'s arguments."""

    @checked
    def __init__(self, lr: Positive, momentum: ShareBelowOne = 0.9, nesterov: bool = False, **common: Any):
        super().__init__(lr, **common)
        if nesterov and momentum == 0:
            raise CarltError("nesterov=true needs a momentum above 0, not momentum=0: give optim.momentum=0.9")
        self.momentum, self.nesterov = momentum, nesterov

    def optimizer(self, groups: list[dict[str, Any]]) -> optim.Optimizer:
        return optim.SGD(groups, self.lr, momentum=self.momentum, nesterov=self.nesterov)


class AdamW(Optim):
    """AdamW (Loshchilov & Hutter, ICLR 2019) without decay on biases and norms, and ``Optim``'s arguments."""

    @checked
    def __init__(
        self,
        lr: Positive,
        betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.999),
        decay_all: bool = False,
        **common: Any,
    ):
        super().__init__(lr, decay_all=decay_all, **common)
        self.betas = betas

    def optimizer(self, groups: list[dict[str, Any]]) -> optim.Optimizer:
        return optim.AdamW(groups, self.lr, betas=(self.betas[0], self.betas[1]))


def layer_scales(network: nn.Module, layer_decay: float) -> dict[int, float]:
    """The share of the learning rate of each parameter, by its ``id``: layer_decay^k, k layers below the classifier.

    Raises:
        CarltError: the network does not tell its layers (timm's ``group_matcher``).
    """
    if layer_decay == 1:
        return {}
    from timm.models import group_parameters

    layered: Any = next((part for part in network.modules() if hasattr(part, "group_matcher")), None)
    if layered is None:
        raise CarltError(
            "optim.layer_decay needs a network with timm's method group_matcher, which tells its layers; "
            "leave layer_decay out"
        )
    layer = group_parameters(layered, layered.group_matcher(coarse=False), reverse=True)
    last = max(layer.values())
    return {id(value): layer_decay ** (last - layer[name]) for name, value in layered.named_parameters()}


def parameter_groups(
    network: nn.Module, weight_decay: float, decay_all: bool, scales: Mapping[int, float] | None = None
) -> list[dict[str, Any]]:
    """Trainable parameters, those with fewer than two dimensions apart and undecayed unless ``decay_all``.

    ``scales`` are shares of the learning rate, by ``id``; each has its own groups, the largest first, and is their
    ``lr``.
    """
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    share = {id(parameter): (scales or {}).get(id(parameter), 1.0) for parameter in trainable}
    groups = []
    for scale in sorted(set(share.values()), reverse=True):
        own = [parameter for parameter in trainable if share[id(parameter)] == scale]
        if decay_all:
            groups.append({"params": own, "weight_decay": weight_decay, "lr": scale})
        else:
            wide, narrow = [p for p in own if p.ndim >= 2], [p for p in own if p.ndim < 2]
            groups.append({"params": wide, "weight_decay": weight_decay, "lr": scale})
            groups.append({"params": narrow, "weight_decay": 0.0, "lr": scale})
    return groups
