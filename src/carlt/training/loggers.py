"""Weights & Biases and TensorBoard, which receive the metrics of ``metrics.csv`` as well."""

import math
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from carlt.config.schema import target_nodes
from carlt.config.targets import parameters_of
from carlt.errors import CarltError
from carlt.reporting.wandb_workspace import has_wandb_key
from carlt.runs import paths
from carlt.runs.record import ClassResult, read_per_class, read_result
from carlt.shots import evenly_spaced
from carlt.training.callbacks.metrics_csv import read_rows
from carlt.training.callbacks.progress import SweepPosition

__all__ = ["tensorboard_logger", "wandb_logger"]

HPARAM_METRICS = ("test/accuracy", "test/balanced_accuracy", "test/few", "test/worst_class")
"""The columns of TensorBoard's table of hyperparameters."""
POINTS = 200
"""Classes that are points of the curve over the classes, at most."""
EXPERIMENT = ("data", "model", "aug", "loss", "reg", "sampler", "stage", "init")


class StepwiseWandb(WandbLogger):
    """Lightning's logger with the training step as W&B's own step.

    W&B counts calls of ``log`` otherwise, and a resumed run would count from 0 again: offline, two parts of one run
    would then claim the same steps.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._wandb_init.pop("anonymous", None)  # W&B warns of it, whatever its value

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        known = {} if step is None else {"trainer/global_step": step}
        self.experiment.log({**metrics, **known}, step=step)


def _recorded_id(record: Path) -> str:
    """The id of the W&B run; CarltError unless it is one."""
    found = paths.read_text(record).strip()
    if not re.fullmatch(r"[\w-]{1,64}", found, re.ASCII):
        raise CarltError(f"{record} holds no id of a W&B run; remove it, and a new W&B run begins")
    return found


def wandb_logger(
    run_dir: Path,
    project: str = "carlt",
    entity: str | None = None,
    group: str | None = None,
    tags: list[str] | None = None,
    offline: bool | None = None,
    choices: Mapping[str, Any] | None = None,
    position: SweepPosition | None = None,
) -> WandbLogger:
    """Weights & Biases, by default ``offline`` without a key. A resumed run continues its W&B run.

    Runs are grouped by experiment, their preset or else the options of their config groups, and tagged with each of
    these and with their sweep. Code, its differences from the commit and the address of the repository are not sent:
    they may hold secrets.
    """
    import wandb

    try:  # before anything is written
        settings = wandb.Settings(
            project=project, entity=entity, silent=True, disable_git=True, disable_code=True, save_code=False
        )
    except (wandb.Error, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CarltError(f"logger.wandb.project={project}, logger.wandb.entity={entity}: {reason}") from None
    record = run_dir / "wandb_id"
    if not record.is_file():
        of_agent = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
        paths.write_text_atomic(record, of_agent or secrets.token_hex(4))
    preset = str(choices["preset"]) if choices and choices.get("preset") else None
    chosen = {name: str(choices[name]) for name in EXPERIMENT if choices and choices.get(name)}
    chosen |= {"preset": preset} if preset else {}
    known = [f"{name}={option}" for name, option in chosen.items()] + ([f"sweep={position.sweep}"] if position else [])
    return StepwiseWandb(
        project=project,
        save_dir=run_dir,
        id=_recorded_id(record),
        name=run_dir.name,
        offline=not has_wandb_key() if offline is None else offline,
        resume="allow",
        entity=entity,
        group=group or preset or "_".join(chosen.values()) or None,
        tags=[tag[:64] for tag in [*(tags or []), *known]],  # W&B's limit
        settings=settings,
    )


def tensorboard_logger(run_dir: Path) -> TensorBoardLogger:
    """TensorBoard's event files, in ``tensorboard/`` of the run folder."""
    try:
        import torch.utils.tensorboard  # noqa: F401 - Lightning alone would take tensorboardX as well

        return TensorBoardLogger(run_dir, name="tensorboard", version="", default_hp_metric=False)
    except ModuleNotFoundError:
        raise CarltError("logger=tensorboard needs the package tensorboard: pip install 'carlt[tensorboard]'") from None


def log_config(loggers: list[Logger], config: DictConfig, **more: Any) -> None:
    """Send the config to the loggers, flat so that each value is a filter.

    ``reg`` is the chosen option, ``reg/weight`` a value of it; defaults of constructors that the config does not state
    are included.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    options = plain.pop("choices", {})
    flat = {
        **_defaults(plain),
        **_flat(plain),
        **{name: option for name, option in options.items() if option is not None},
        **more,
    }
    for logger in loggers:
        if isinstance(logger, WandbLogger | TensorBoardLogger):
            logger.log_hyperparams(flat)


def log_results(loggers: list[Logger], run_dir: Path, metrics: dict[str, float], images: dict[str, Path]) -> None:
    """Send the metrics, the classes and the plots of a finished run to the loggers that can show them."""
    final = _final(metrics, read_result(run_dir).get("best"))
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _results_to_wandb(logger, run_dir, final, images)
        elif isinstance(logger, TensorBoardLogger):
            _results_to_tensorboard(logger, run_dir, final, images)


def _final(metrics: Mapping[str, Any], best: Mapping[str, Any] | None) -> dict[str, Any]:
    """The metrics of the last epoch, and with ``best/`` in front those of the best one.

    ``train_evaluation/`` is the training split in evaluation mode: ``train/`` has the means over training steps.
    """
    last = {re.sub("^train/", "train_evaluation/", name): value for name, value in metrics.items()}
    if not best:
        return last
    return last | {"best/epoch": best["epoch"] + 1} | {f"best/{name}": v for name, v in best["metrics"].items()}


def _results_to_wandb(logger: WandbLogger, run_dir: Path, final: Mapping[str, Any], images: dict[str, Path]) -> None:
    import wandb

    classes = read_per_class(run_dir)
    rows = [[None if value != value else value for value in row] for row in classes]
    logger.experiment.summary.update(final)
    logger.experiment.log(
        {"per_class": wandb.Table(columns=list(ClassResult._fields), data=rows)}
        | {f"plots/{name}": wandb.Image(str(path)) for name, path in images.items()}
    )
    # A curve over the rank of the class by its training images: W&B draws those of several runs into one plot.
    logger.experiment.define_metric("classes/*", step_metric="classes/rank")
    for rank, row in _ranked(run_dir):
        known = {} if row.accuracy != row.accuracy else {"classes/test_accuracy": row.accuracy}
        logger.experiment.log({"classes/rank": rank, "classes/training_images": row.train_count, **known})


def _ranked(run_dir: Path) -> list[tuple[int, ClassResult]]:
    """Up to ``POINTS`` classes, evenly spaced, with their rank by training images from 1."""
    ranked = sorted(read_per_class(run_dir), key=lambda row: -row.train_count)
    return [(index + 1, ranked[index]) for index in evenly_spaced(len(ranked), POINTS)]


def _results_to_tensorboard(
    logger: TensorBoardLogger, run_dir: Path, final: Mapping[str, Any], images: dict[str, Path]
) -> None:
    from matplotlib.image import imread
    from torch.utils.tensorboard.summary import hparams

    last = read_rows(run_dir / paths.METRICS)[-1]
    step = int(last["step"])
    # At the last step, and without those that have a curve: TensorBoard drops a curve after a value at step 0.
    finite = {name: value for name, value in final.items() if value is not None and math.isfinite(value)}
    finite = {name: value for name, value in finite.items() if name not in last}
    logger.log_metrics(finite, step)
    # Not logger.log_hyperparams, which has no step in Lightning 2.4.
    plain = {
        name: value if isinstance(value, int | float | str) else str(value) for name, value in logger.hparams.items()
    }
    for part in hparams(plain, {name: finite[name] for name in HPARAM_METRICS if name in finite}):
        logger.experiment.file_writer.add_summary(part, step)
    # Curves over the rank of the class by its training images, in place of the step: those of several runs in one plot.
    for row_rank, row in _ranked(run_dir):
        shown = {"classes/test_accuracy": row.accuracy, "classes/training_images": float(row.train_count)}
        for name, value in shown.items():
            if math.isfinite(value):
                logger.experiment.add_scalar(name, value, row_rank)
    for name, path in images.items():
        logger.experiment.add_image(f"plots/{name}", imread(path)[..., :3], step, dataformats="HWC")


def finish(loggers: list[Logger], failed: bool = False) -> None:
    """Close the loggers, of a failed run too: the next job of a sweep would write into this one's W&B run."""
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
        if isinstance(logger, WandbLogger):
            import wandb

            wandb.finish(int(failed))  # not logger.experiment.finish(), which would start a run if there is none


def _defaults(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers, texts and truth values that constructors take where the config is silent, by flat name."""
    parts = OmegaConf.create({name: node for name, node in plain.items() if name not in ("callbacks", "logger")})
    return {
        f"{place.replace('.', '/')}/{name}": parameter.default
        for place, node in target_nodes(parts)
        for name, parameter in parameters_of(node["_target_"]).items()
        if isinstance(parameter.default, bool | int | float | str)
    }


def _flat(node: Any, position: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {position: node}
    return {
        key: value for name, item in node.items() for key, value in _flat(item, f"{position}/{name}".strip("/")).items()
    }
