"""Where metrics go besides ``metrics.csv``: W&B or TensorBoard, when asked for."""

import csv
import netrc
import os
import secrets
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from carlt import paths
from carlt.errors import CarltError


def wandb_logger(
    run_dir: Path,
    project: str = "carlt",
    entity: str | None = None,
    group: str | None = None,
    tags: list[str] | None = None,
    offline: bool | None = None,
) -> WandbLogger:
    """Weights & Biases, by default ``offline`` where no key is at hand. A resumed run goes on with its W&B run."""
    record = run_dir / "wandb_id"
    identity = record.read_text().strip() if record.exists() else secrets.token_hex(4)
    if not record.exists():
        paths.replace_text(record, identity)
    return WandbLogger(
        project=project,
        save_dir=run_dir,
        id=identity,
        name=run_dir.name,
        offline=not _has_wandb_key() if offline is None else offline,
        resume="allow",
        entity=entity,
        group=group,
        tags=tags,
    )


def tensorboard_logger(run_dir: Path) -> TensorBoardLogger:
    """TensorBoard's event files, in the run folder's ``tensorboard/``."""
    try:
        return TensorBoardLogger(run_dir, name="tensorboard", version="")
    except ModuleNotFoundError:
        raise CarltError("logger=tensorboard needs the package tensorboard: pip install -e '.[tensorboard]'") from None


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


def finish(loggers: list[Logger]) -> None:
    """Close the loggers, of a failed run too: the next job of a sweep would write into this one's W&B run."""
    for logger in loggers:
        logger.finalize("success")
        if isinstance(logger, WandbLogger):
            import wandb

            wandb.finish()  # not logger.experiment.finish(), which would begin a run where none was begun


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
