"""Callbacks log and record; none of them changes training."""

from carlt.training.callbacks.car_diagnostics import CarDiagnostics
from carlt.training.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints, read_checkpoint
from carlt.training.callbacks.class_accuracy import ClassAccuracy
from carlt.training.callbacks.gradient_shares import GradientShares
from carlt.training.callbacks.metrics_csv import MetricsCsv, read_rows
from carlt.training.callbacks.progress import Progress
from carlt.training.callbacks.training_time import TrainingTime

__all__ = [
    "AtomicCheckpointIO",
    "CarDiagnostics",
    "Checkpoints",
    "ClassAccuracy",
    "GradientShares",
    "MetricsCsv",
    "Progress",
    "TrainingTime",
    "read_checkpoint",
    "read_rows",
]
