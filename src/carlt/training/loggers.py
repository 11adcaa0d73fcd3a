"""Loggers besides ``metrics.csv``: W&B and TensorBoard."""

import csv
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from carlt.errors import CarltError
from carlt.reporting.wandb_workspace import has_wandb_key
from carlt.runs import paths
from carlt.training.callbacks.progress import SweepPosition

__all__ = ["tensorboard_logger", "wandb_logger"]

EXPERIMENT = ("data", "model", "aug", "loss", "reg", "sampler", "stage", "init")


class StepwiseWandb(WandbLogger):
    """Lightning's logger with the training step as W&B's own step.

    W&B counts calls of ``log`` otherwise, and a resumed run would count from 0 again: offline, two parts of one run
    would then claim the same steps.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        known = {} if step is None else {"trainer/global_step": step}
        self.experiment.log({**metrics, **known}, step=step)


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
    these and with their sweep. Code, its differences from the commit and the address of the repository stay here: who
    knows what they hold.
    """
    import wandb

    record = run_dir / "wandb_id"
    if not record.exists():
        of_agent = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
        paths.write_text_atomic(record, of_agent or secrets.token_hex(4))
    preset = str(choices["preset"]) if choices and choices.get("preset") else None
    chosen = {name: str(choices[name]) for name in EXPERIMENT if choices and choices.get(name)}
    chosen |= {"preset": preset} if preset else {}
    known = [f"{name}={option}" for name, option in chosen.items()] + ([f"sweep={position.sweep}"] if position else [])
    return StepwiseWandb(
        project=project,
        save_dir=run_dir,
        id=record.read_text().strip(),
        name=run_dir.name,
        offline=not has_wandb_key() if offline is None else offline,
        resume="allow",
        entity=entity,
        group=group or preset or "_".join(chosen.values()) or None,
        tags=[tag[:64] for tag in [*(tags or []), *known]],  # W&B takes no longer ones
        settings=wandb.Settings(disable_git=True, disable_code=True, save_code=False),
    )


def tensorboard_logger(run_dir: Path) -> TensorBoardLogger:
    """TensorBoard's event files, in the run folder's ``tensorboard/``."""
    try:
        return TensorBoardLogger(run_dir, name="tensorboard", version="")
    except ModuleNotFoundError:
        raise CarltError("logger=tensorboard needs the package tensorboard: pip install -e '.[tensorboard]'") from None


def log_config(loggers: list[Logger], config: DictConfig, **more: Any) -> None:
    """Send W&B the config, flat so that each value is a filter (``reg/weight``, and ``reg`` for the option chosen)."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    options = plain.pop("choices", {})
    flat = {**_flat(plain), **{name: option for name, option in options.items() if option is not None}, **more}
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_hyperparams(flat)


def log_results(loggers: list[Logger], run_dir: Path, metrics: dict[str, float], images: dict[str, Path]) -> None:
    """Send a finished run's metrics, per-class table and plots to the loggers that can show them."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            with open(run_dir / paths.PER_CLASS, newline="") as file:
                header, *rows = list(csv.reader(file))
            logger.experiment.summary.update(metrics)
            logger.experiment.log(
                {"per_class": wandb.Table(columns=[*header], data=rows)}
                | {f"plots/{name}": wandb.Image(str(path)) for name, path in images.items()}
            )
        elif isinstance(logger, TensorBoardLogger):
            logger.log_metrics(metrics)


def finish(loggers: list[Logger], failed: bool = False) -> None:
    """Close the loggers, of a failed run too: the next job of a sweep would write into this one's W&B run."""
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
        if isinstance(logger, WandbLogger):
            import wandb

            wandb.finish(int(failed))  # not logger.experiment.finish(), which would begin a run where none was begun


def _flat(node: Any, position: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {position: node}
    return {
        key: value for name, item in node.items() for key, value in _flat(item, f"{position}/{name}".strip("/")).items()
    }
