"""``metrics.csv``: the metrics of each epoch."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from carlt.errors import CarltError, first_line
from carlt.runs import paths, record

Row = dict[str, float]
REMEDY = "restore it, or remove it: the run then goes on without the rows of earlier epochs"


class MetricsCsv(Callback):
    """Writes ``metrics.csv``, one row per epoch. A resumed run keeps the rows of the epochs that it does not repeat.

    A callback and no logger: Lightning hands an epoch to its loggers after ``last.ckpt`` is saved, so a kill between
    the two would lose a row.
    """

    def __init__(self, run_dir: Path):
        self.path = run_dir / paths.METRICS
        self.rows: list[Row] = []

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        written = read_rows(self.path) if trainer.current_epoch and self.path.exists() else []
        try:
            self.rows = [row for row in written if row["epoch"] < trainer.current_epoch]
        except KeyError:
            raise CarltError(f"{self.path} is damaged: it has no column epoch; {REMEDY}") from None

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        # Reduces over the ranks, so all of them must call it. NaN is "not measured" and becomes an empty cell.
        metrics = {name: float(value) for name, value in measured_metrics(trainer).items()}
        if trainer.is_global_zero:
            measured = {name: value for name, value in metrics.items() if not math.isnan(value)}
            self.rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **measured})
            write_rows(self.path, self.rows)


def measured_metrics(trainer: L.Trainer) -> dict[str, Any]:
    """Lightning's metrics without those of a validation that this epoch did not have: it keeps the last ones."""
    every = trainer.check_val_every_n_epoch
    validated = every is None or (trainer.current_epoch + 1) % every == 0
    metrics = trainer.callback_metrics
    return {name: value for name, value in metrics.items() if validated or not name.startswith("val/")}


def read_rows(path: Path) -> list[Row]:
    """The rows of a ``metrics.csv``, without its empty cells; CarltError for a damaged one."""
    try:
        return record.read_epochs(path)
    except CarltError:
        raise
    except (ValueError, AttributeError, csv.Error) as error:
        raise CarltError(f"{path} is damaged ({first_line(error)[:200]}); {REMEDY}") from None


def write_rows(path: Path, rows: list[Row]) -> None:
    """Rows as CSV: epoch, step, and every metric that any row has."""
    names: dict[str, Any] = dict.fromkeys(["epoch", "step", *sorted({name for row in rows for name in row})])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    paths.write_text_atomic(path, text.getvalue())
