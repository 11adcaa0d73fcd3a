"""The training step: mixed and normalised images, forward, loss + regularizer; and the EMA of the weights."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from carlt.data.batch import Batch, Pair
from carlt.errors import CarltError, first_line
from carlt.functional.mixing import soft_labels
from carlt.functional.seeds import derive_seed
from carlt.losses.base import NetworkLoss
from carlt.losses.step import StepInput, StepOutput, unchanged
from carlt.metrics import BatchMean, ConfusionCounts, Evaluation
from carlt.models.class_means import RunningClassMeans
from carlt.models.classifier import extract_features, get_classifier
from carlt.protocols import ActsAfterStep, AdjustsLogits, FollowsProgress
from carlt.runs.faults import is_out_of_memory
from carlt.training.ema import EmaNetwork
from carlt.training.epochs import goes_on_within_epoch
from carlt.training.optim import Optim
from carlt.training.sharding import shard

Mix = Callable[[Tensor, Tensor], Pair]

STEP = 1
"""Keeps the draws of a step apart from those of the views of its batch."""


class LongTailClassifier(L.LightningModule):
    """A network trained with ``loss(logits, targets) + reg(logits, targets)`` on uint8 batches.

    Args:
        model: normalised images (N, channels, H, W) to logits (N, C).
        loss, reg: (logits, targets) to a scalar; ``reg`` may hold state (CAR does) and is saved with the network. A
            ``NetworkLoss`` runs the network itself (``carlt.losses.base``).
        optim: optimizer and schedule.
        class_counts: training images of each class (C,); they decide many / medium / few.
        mean, std: of the channels, for images in [0, 1].
        mix: mixes a batch: (images, labels (N,)) to (images, soft labels (N, C)); None mixes nothing.
        paste: mixes the batches that come with a foreground: (images, foreground) to (images, share that is left).
        relabel: corrects the labels of what was pasted: (features, centres, labels (N, C)) to labels.
        class_means: the centres for ``relabel`` where the loss has none.
        seed: with the step it decides every draw in it (dropout, mixing), so that a resumed run repeats them.
        channels_last: lay images out with the channels last; convolutions are then faster on most hardware.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        model: nn.Module,
        loss: nn.Module,
        reg: nn.Module,
        optim: Optim,
        class_counts: Tensor,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        mix: Mix | None = None,
        paste: Callable[[Tensor, Tensor], tuple[Tensor, float]] | None = None,
        relabel: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        class_means: RunningClassMeans | None = None,
        seed: int = 0,
        channels_last: bool = False,
    ):
        super().__init__()
        self.model, self.loss, self.reg, self.optim, self.seed = model, loss, reg, optim, seed
        self.average = None if optim.ema_decay is None else EmaNetwork(model, optim.ema_decay)
        """The exponential moving average (EMA) of the weights, which is evaluated; saved with the checkpoint."""
        self.mix, self.paste, self.relabel, self.class_means = mix, paste, relabel, class_means
        self.class_counts = class_counts
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        # Saved, because a pretrained network has a normalisation of its own and its file is not read again.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.register_load_state_dict_pre_hook(_complete_normalisation)
        # A regularizer's state is the same on every rank by itself; DDP need not send a C x C matrix every step.
        self._ddp_params_and_buffers_to_ignore = [f"reg.{name}" for name, _ in reg.named_buffers()]
        # Saved with the checkpoint, so that an interrupted epoch logs the same values as an uninterrupted one.
        self.train_means = nn.ModuleDict({name: BatchMean() for name in ("loss", "penalty")})
        self.counts = ConfusionCounts(len(class_counts))
        self.evaluation: Evaluation | None = None
        """Of the last finished validation or test pass."""

    def forward(self, images: Tensor) -> Tensor:
        """uint8 images (N, channels, H, W) to logits (N, C)."""
        return (self.model if self.training else self.evaluated)(self.normalise(images))

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated: with the EMA of the weights, if there is one."""
        return self.model if self.average is None else self.average.module

    def drop_last_weights(self) -> None:
        """Keep of a trained network only what is evaluated, as ``model``."""
        self.model, self.average = self.evaluated, None

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images to float32 with mean 0 and standard deviation 1 per channel."""
        # Changed in place: no further copies of a large batch.
        images = images.to(torch.float32, copy=True, memory_format=self.layout)
        return images.div_(255).sub_(self.mean).div_(self.std)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["world_size"] = self.trainer.world_size  # the rest of an epoch needs the same (checks.check_resumed)
        for name, mean in self.train_means.items():
            metric = cast(BatchMean, mean)
            with metric.sync_context():  # of the batches of all ranks
                for state, value in metric.metric_state.items():
                    if (key := f"train_means.{name}.{state}") in checkpoint["state_dict"]:
                        checkpoint["state_dict"][key] = cast(Tensor, value).clone()

    def on_train_epoch_start(self) -> None:
        # Lightning does so after an epoch, but last.ckpt is saved before that.
        if not goes_on_within_epoch(self.trainer):
            for metric in self.train_means.values():
                cast(BatchMean, metric).reset()
        self._set_progress()

    def on_train_epoch_end(self) -> None:
        self._check_weights()

    def on_validation_epoch_start(self) -> None:
        if self.trainer.state.fn == "fit":  # before its numbers say so less clearly
            self._check_weights()

    def _check_weights(self) -> None:
        """Stop a training that has diverged: its numbers would stand in tables like any other's."""
        finite = all(bool(weight.isfinite().all()) for weight in self.model.parameters())
        if not self.trainer.strategy.reduce_boolean_decision(finite):  # of all ranks
            raise CarltError(
                f"training has diverged in epoch {self.current_epoch + 1}: weights of the network are not finite; "
                "train anew with a smaller optim.lr, or clip gradients (trainer.gradient_clip_val=1)"
            )

    def on_train_start(self) -> None:
        self._set_progress()  # a run resumed within an epoch has no start of that epoch
        scheduler = cast(LambdaLR, self.lr_schedulers())
        if not goes_on_within_epoch(self.trainer):
            # On another number of devices an epoch has another number of steps; the checkpoint counted the old ones.
            scheduler.last_epoch = self.current_epoch * self._steps_per_epoch()
        # Of a run that resume= made longer the checkpoint has the rates of the shorter one.
        for group, base, factor in zip(
            scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(scheduler.last_epoch)
        if self.global_rank:  # one rank goes on with what a checkpoint has of all ranks
            for metric in self.train_means.values():
                cast(BatchMean, metric).reset()

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        torch.manual_seed(derive_seed(self.seed, self.current_epoch, batch_idx, self.global_rank, STEP))
        batch = Batch(*batch)
        images, targets = self.mixed(batch)
        output = self._compute_loss(images, targets, batch)
        penalty = self.reg(output.logits, output.targets)
        for name, value in (("loss", output.loss), ("reg", penalty)):
            if value.ndim:
                part = type(getattr(self, name)).__name__
                raise CarltError(f"{name}: {part} gave a tensor {tuple(value.shape)}; it must give one number, a mean")
        self._log_means(loss=output.loss, penalty=penalty, size=len(batch.labels))
        return {"loss": output.loss + penalty, "logits": output.logits.detach()}

    def mixed(self, batch: Batch) -> Pair:
        """Normalised images and their labels, soft where they were mixed."""
        if batch.foreground is not None and self.paste is not None:
            foreground, others = batch.foreground
            images, share = self.paste(batch.images, foreground)
            return self.normalise(images), soft_labels(batch.labels, others, share, len(self.class_counts))
        images = self.normalise(batch.images)
        return (images, batch.labels) if self.mix is None else self.mix(images, batch.labels)

    def _compute_loss(self, images: Tensor, targets: Tensor, batch: Batch) -> StepOutput:
        """The loss of a batch; a ``NetworkLoss`` runs the network itself, on all that the batch holds."""
        relabel = partial(self._relabel, batch, targets) if self.relabel is not None else None
        adjust = self.reg.adjust if isinstance(self.reg, AdjustsLogits) else unchanged
        if not isinstance(self.loss, NetworkLoss):
            if relabel is None:
                logits = self.model(images)
            else:
                features = extract_features(self.model, images)
                logits, targets = get_classifier(self.model)(features), relabel(features, None)
            return StepOutput(logits, targets, self._loss_of_logits(adjust(logits), targets))
        views = batch.contrast
        contrast = None if views is None else self.normalise(views.flatten(0, 1)).unflatten(0, views.shape[:2])
        step = StepInput(images, targets, batch.labels, contrast, relabel, adjust=adjust)
        if batch.foreground is not None and self.paste is None:
            others, labels = batch.foreground
            step = step._replace(second=(self.normalise(others), labels))
        return self.loss.compute_loss(self.model, step)

    def _loss_of_logits(self, logits: Tensor, targets: Tensor) -> Tensor:
        """CarltError if the loss, of the user's own, does not take the soft labels of mixed images."""
        try:
            return self.loss(logits, targets)
        except Exception as error:
            if isinstance(error, CarltError) or is_out_of_memory(error) or not targets.is_floating_point():
                raise
            raise CarltError(
                f"loss: {type(self.loss).__name__} does not take the soft labels of mixed images, floating (N, C) "
                f"({first_line(error)}); leave out what mixes them under aug=, or have it take such labels"
            ) from error

    def _relabel(self, batch: Batch, targets: Tensor, features: Tensor, centres: Tensor | None) -> Tensor:
        """The targets of a batch, corrected where it was pasted; other batches move the running class means."""
        assert self.relabel is not None
        if batch.foreground is None:
            if self.class_means is not None and not targets.is_floating_point():
                self.class_means.update(features, targets)
            return targets
        if centres is None:
            assert self.class_means is not None
            centres = self.class_means.means
        return self.relabel(features, centres, targets)

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        images, labels = batch
        self.counts.update(self(images), labels)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self._finish_evaluation()
        assert self.evaluation is not None
        summary = self.evaluation.summary(self.class_counts)
        # Every rank has the counts of all ranks, so there is nothing left to reduce.
        self.log_dict({f"val/{name}": value for name, value in summary.items()})

    def on_test_epoch_end(self) -> None:
        self._finish_evaluation()

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        return self.optim.configure(self, self.trainer.max_epochs or 1, self._steps_per_epoch())

    def _steps_per_epoch(self) -> int:
        trainer: Any = self.trainer
        # Not trainer.estimated_stepping_batches: it builds the loader before a checkpoint's loader state can reach it.
        batches, limit = len(trainer.datamodule.schedule()), trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        return max(1, math.ceil(batches / trainer.accumulate_grad_batches))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if isinstance(self.model, ActsAfterStep):
            self.model.after_step(bool(self.trainer.is_last_batch))
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _set_progress(self) -> None:
        """Give the parts that change in the course of training the share of it that is done, in [0, 1)."""
        for part in (self.loss, self.reg, self.mix, self.paste, self.relabel):
            if isinstance(part, FollowsProgress):
                part.set_progress(self.current_epoch / (self.trainer.max_epochs or 1))

    def _finish_evaluation(self) -> None:
        self.evaluation = self.counts.evaluation()
        self.counts.reset()

    def _log_means(self, size: int, **values: Tensor) -> None:
        for name, value in values.items():
            metric = cast(BatchMean, self.train_means[name])
            metric.update(value.detach(), size)
            self.log(f"train/{name}", metric, on_step=False, on_epoch=True)


def _complete_normalisation(module: LongTailClassifier, state: dict[str, Any], *_: Any) -> None:
    """Checkpoints of version 0.1 lack mean and std: they are those of the data set."""
    for name in ("mean", "std"):
        state.setdefault(name, getattr(module, name))
