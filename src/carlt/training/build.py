"""Build the parts of a run from a validated config. The parts take plain values, no DictConfig."""

import logging
import os
import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from carlt.aug import Compose
from carlt.config.instantiate import build, part_class
from carlt.data import LongTailDataModule
from carlt.errors import CarltError
from carlt.losses.base import Augmentation, LogitsLoss, NetworkLoss
from carlt.models.class_means import RunningClassMeans
from carlt.models.classifier import feature_dim
from carlt.models.weights import AVERAGE, normalisation, take_normalisation
from carlt.runs import paths
from carlt.runs.text import get_logger
from carlt.stages import Stage
from carlt.training import checks, sharding
from carlt.training.callbacks import AtomicCheckpointIO, MetricsCsv, read_checkpoint
from carlt.training.callbacks.progress import SweepPosition
from carlt.training.module import LongTailClassifier

log = get_logger(__name__)


def build_data(config: DictConfig) -> LongTailDataModule:
    """The data module, with the views and the sampler it serves. Runs of earlier versions lack some keys of ``aug``."""
    if not 0 <= config.seed < 2**32:
        raise CarltError(f"seed={config.seed} is out of range: it is at least 0 and below 2^32")
    size: dict[str, Any] = {"image_size": config.data.image_size}
    second, paste = config.aug.get("second"), config.aug.get("paste")
    loss = _loss_class(config)
    copies, like_view = (loss.contrast_views, loss.contrast_is_view) if issubclass(loss, NetworkLoss) else (0, False)
    loss.check_augmentation(Augmentation(bool(config.aug.get("mix")), bool(paste)))
    if second and paste:
        raise CarltError("aug.second and aug.paste both draw further images: leave one of them out")
    if second and not issubclass(loss, NetworkLoss):
        raise CarltError(f"aug.second: {loss.__name__} uses no second batch: leave it out, or choose loss=glmc")
    view = build(config, "aug.view", **size)
    if transforms := _build_named(config, "aug.transforms"):
        view = Compose(view, transforms)
    contrast = view if like_view else build(config, "aug.contrast", **size) if copies else None
    return build(
        config,
        "data",
        view=view,
        eval_view=build(config, "aug.eval_view", **size),
        contrast_view=contrast,
        contrast_copies=copies,
        foreground=build(config, "aug.second" if second else "aug.paste") if second or paste else None,
        sampler=build(config, "sampler"),
        seed=config.seed,
    )


def build_module(
    config: DictConfig, data: LongTailDataModule, init: Mapping[str, Tensor] | None = None
) -> LongTailClassifier:
    """The network with its loss and regularizer, for the classes that ``data`` has. Initial weights follow ``seed``.

    ``init`` is the state of the run that a second stage begins with; a checkpoint of the stage itself needs none.
    Images are normalised as ``data.normalisation`` says: by default as the initial weights expect, or with the data
    set's mean and standard deviation.
    """
    L.seed_everything(config.seed, verbose=False)
    context: dict[str, Any] = {"num_classes": data.num_classes, "class_counts": data.class_counts}
    model = build(config, "model", in_channels=data.channels, image_size=data.image_size, **context)
    if not fits(model, data.image_size):
        native = model.native_size
        log.warning(
            "%s is made for images of %d pixels; at data.image_size=%d a step takes about %d times as much time and "
            "memory. Give data.image_size=%d, or another model, such as model=resnet50",
            type(model).__name__, native, data.image_size, (data.image_size / native) ** 2, native,
        )  # fmt: skip
    if init is not None:
        _load(model, init, config.init_run)
    of_network = normalisation(model, data.channels) if data.normalisation == "own" else None
    mean, std = of_network or (data.mean, data.std)
    loss = _loss_class(config)
    if config.get("stage"):
        if issubclass(loss, NetworkLoss):
            raise CarltError(
                f"loss: {loss.__name__} trains features, and a second stage freezes them; choose another loss, such as "
                "loss=ce"
            )
        stage: Stage = build(config, "stage")
        model = stage.build_network(model)
    if issubclass(loss, NetworkLoss) and loss.contrast_views:
        context |= {"feature_dim": feature_dim(model), "network": model}
    class_means = None
    if config.aug.get("relabel") and not getattr(loss, "has_centres", False):
        if (config.aug.get("paste") or {}).get("probability") == 1:
            raise CarltError(
                "aug.paste.probability=1: aug.relabel takes class means from batches without patches, and there are "
                "none; lower it, or choose loss=bcl"
            )
        if config.aug.mix:
            raise CarltError(
                "aug.mix (mixup, cutmix, remix) mixes every batch without a patch, and aug.relabel takes class means "
                "from those: leave one of them out, or choose loss=bcl"
            )
        class_means = RunningClassMeans(data.num_classes, feature_dim(model))
    return LongTailClassifier(
        model=model,
        loss=build(config, "loss", **context),
        reg=build(config, "reg", **context),
        optim=build(config, "optim"),
        class_counts=data.class_counts,
        mean=mean,
        std=std,
        mix=build(config, "aug.mix", **context) if config.aug.mix else None,
        paste=build(config, "aug.paste") if config.aug.get("paste") else None,
        relabel=build(config, "aug.relabel", **context) if config.aug.get("relabel") else None,
        class_means=class_means,
        seed=config.seed,
        channels_last=config.channels_last,
    )


def fits(model: Any, image_size: int) -> bool:
    """Whether images have at most twice the side of those that ``model``, a network or its class, is made for."""
    return image_size <= 2 * getattr(model, "native_size", image_size)


def _build_named(config: DictConfig, mapping: str, **context: Any) -> list[Any]:
    """The parts of a mapping from names to parts, in its order; null leaves one out."""
    nodes = OmegaConf.select(config, mapping) or {}
    return [build(config, f"{mapping}.{name}", **context) for name, node in nodes.items() if node is not None]


def _loss_class(config: DictConfig) -> type[LogitsLoss] | type[NetworkLoss]:
    """The class of the loss; a module without carlt's base classes is a loss of logits."""
    found = part_class(config, "loss")
    return found if isinstance(found, type) and issubclass(found, LogitsLoss | NetworkLoss) else LogitsLoss


def initial_weights(config: DictConfig) -> dict[str, Tensor]:
    """The state of the run that a second stage begins with."""
    return read_checkpoint(paths.checkpoint(Path(config.init_run), "last"))["state_dict"]


def has_begun(folder: Path) -> bool:
    """Whether the run in ``folder`` has saved anything to go on from.

    Raises:
        CarltError: it has, but its last checkpoint is missing or damaged.
    """
    last, best = paths.checkpoint(folder, "last"), paths.checkpoint(folder, "best")
    if not any(path.exists() for path in (last, best, folder / paths.RESULT, folder / paths.METRICS)):
        return False
    try:
        read_checkpoint(last)
    except CarltError as error:
        remedy = "start a new run"
        with suppress(CarltError):
            copy = shlex.join(["cp", str(best), str(last)])
            remedy = f"go on from the best epoch ({read_checkpoint(best)['epoch'] + 1}) with: {copy}"
        raise CarltError(f"resume={folder}: {error}; {remedy}") from None
    return True


def check_resumable(
    checkpoint: Path, module: LongTailClassifier, config: DictConfig, data: LongTailDataModule
) -> tuple[int, int | None]:
    """The number of epochs that ``checkpoint`` has finished; and if it stopped within an epoch, on how many devices,
    which ``checks.check_resumed`` asks for again. Versions before 0.2 did not note that, and it is None.

    Raises:
        CarltError: it does not fit the network, has trained as long as the config says, or its data have changed.
    """
    folder = checkpoint.parents[1]
    state = read_checkpoint(checkpoint)
    load_weights(module, state, checkpoint, folder)
    try:
        epochs = state["loops"]["fit_loop"]["epoch_progress"]["current"]
        done = range(2**31)[epochs["processed"]]
        devices = range(2**31)[state.get("world_size", 0)] if epochs["ready"] != done else 0
        if not all(isinstance(count, int) for count in _counts(state["loops"])):
            raise TypeError
    except (LookupError, TypeError, RecursionError):
        raise CarltError(f"{checkpoint} holds no state of a training: it is damaged, or of another program") from None
    if done > config.trainer.max_epochs or (done == config.trainer.max_epochs and (folder / paths.RESULT).is_file()):
        raise CarltError(
            f"resume={folder} has trained {done} epochs already, trainer.max_epochs={config.trainer.max_epochs}: "
            "give a larger trainer.max_epochs"
        )
    stored = config.get("data_sha256")
    if stored and stored != data.checksum() and not _only_tests_on_fewer(config, data, stored):
        raise CarltError(
            f"resume={folder}: the images under data.root are not those that the run began with (checksum "
            f"{data.checksum()[:8]}, recorded {stored[:8]}); put them back, or start a new run"
        )
    return done, devices or None


def _only_tests_on_fewer(config: DictConfig, data: LongTailDataModule, stored: str) -> bool:
    """Whether ``data`` is what ``stored`` is the checksum of, but for damaged test images that are left out."""
    if data.on_error != "skip":
        return False
    whole_config = config.copy()
    whole_config.data.on_error = "raise"
    whole = build_data(whole_config)
    whole.set_verify("lists")
    with suppress(CarltError):  # a set in memory cannot be read without its damaged images
        return whole.checksum() == stored and whole.checksum("train") == data.checksum("train")
    return False


def _counts(loops: Mapping[str, Any]) -> Iterator[Any]:
    """The numbers of epochs and steps in Lightning's state of its loops."""
    for name, value in loops.items():
        if isinstance(value, dict):
            yield from _counts(value)
        elif name in ("ready", "started", "processed", "completed"):
            yield value


def load_weights(module: LongTailClassifier, checkpoint: Mapping[str, Any], path: Path, folder: Path) -> None:
    """Load the weights and buffers of ``checkpoint``, which was read from ``path``, into ``module``.

    Raises:
        CarltError: they are not those of the network of ``folder``'s config.
    """
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except (KeyError, RuntimeError, TypeError) as error:
        reason = next((line.strip() for line in str(error).splitlines()[1:]), str(error))
        raise CarltError(
            f"{path} does not fit the network of {folder / paths.CONFIG}: {reason}; restore both files "
            "from the same run"
        ) from None


def _load(model: nn.Module, given: Mapping[str, Tensor], folder: str) -> None:
    tested = AVERAGE if any(name.startswith(AVERAGE) for name in given) else "model."
    weights = {name.removeprefix(tested): value for name, value in given.items() if name.startswith(tested)}
    wanted = model.state_dict()
    shapes = [
        f"{name} is {_shape(weights, name)} there and {_shape(wanted, name)} here"
        for name in {**wanted, **weights}
        if _shape(weights, name) != _shape(wanted, name)
    ]
    if shapes:
        raise CarltError(
            f"init_run={folder} has another network or number of classes: {shapes[0]}; give the model and the "
            "data of that run"
        )
    model.load_state_dict(weights)
    take_normalisation(model, given, f"init_run={folder}")


def _shape(state: Mapping[str, Tensor], name: str) -> str:
    return str(tuple(state[name].shape)) if name in state else "missing"


def build_loggers(config: DictConfig, run_dir: Path, position: SweepPosition | None = None) -> list[Logger]:
    """The loggers that ``logger=`` names."""
    context: dict[str, Any] = {"run_dir": run_dir, "position": position, "choices": dict(config.get("choices") or {})}
    return _build_named(config, "logger", **context)


def build_trainer(
    config: DictConfig, run_dir: Path, loggers: list[Logger], position: SweepPosition | None = None
) -> L.Trainer:
    """Lightning's trainer with carlt's callbacks; metrics.csv is written for every config."""
    callbacks = [*_build_named(config, "callbacks", run_dir=run_dir, position=position), MetricsCsv(run_dir)]
    trainer = _trainer(
        config, callbacks=callbacks, logger=loggers, plugins=[AtomicCheckpointIO()], default_root_dir=run_dir
    )
    checks.check_devices(trainer)
    return trainer


def evaluate_trainer(config: DictConfig, run_dir: Path) -> L.Trainer:
    """A trainer that only evaluates: the same device and precision, no callbacks, no logging."""
    return _trainer(config, callbacks=[], logger=False, default_root_dir=run_dir)


def _trainer(config: DictConfig, **objects: Any) -> L.Trainer:
    """Lightning's trainer without the values that are carlt's own."""
    config = config.copy()
    with open_dict(config):
        config.trainer.pop("compile", None)
        objects["strategy"] = sharding.strategy(config.trainer.pop("strategy", "auto"))
    return build(config, "trainer", **objects)


def compile_network(module: LongTailClassifier, config: DictConfig) -> None:
    """Compile the network in place if ``trainer.compile`` says so; checkpoints keep their names.

    Loss and regularizer stay outside the graph. A loss that asks the network for its features runs it uncompiled.
    """
    wanted = config.trainer.get("compile")
    if not wanted:
        return
    if isinstance(wanted, str) and wanted not in (known := torch.compiler.list_backends(exclude_tags=None)):
        raise CarltError(f"trainer.compile={wanted}: expected true, false or a backend of torch: {', '.join(known)}")
    module.model.compile(**({"backend": wanted} if isinstance(wanted, str) else {}))


def quiet_libraries() -> None:
    """Silence the notes of Lightning and W&B about themselves."""
    os.environ.setdefault("WANDB_SILENT", "true")  # read before W&B's own settings are
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for hint in (
        r".*does not have many workers.*",
        r".*The number of training batches.*smaller than the logging interval.*",
        r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
        r".*Checkpoint directory .* exists and is not empty.*",
        r".*GPU available but not used.*",
        r".*Found \d+ module\(s\) in eval mode at the start of training.*",  # what a stage leaves as it is
        r".*Total length of `list` across ranks is zero.*",  # no validation split
        r".*It is recommended to use `self.log\(.*sync_dist=True.*",  # what we log is the same on every rank
    ):
        warnings.filterwarnings("ignore", message=hint)
