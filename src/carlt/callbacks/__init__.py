"""Callbacks log and record; none of them changes training."""

from carlt.callbacks.car_diagnostics import CarDiagnostics
from carlt.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints, read_checkpoint
from carlt.callbacks.class_accuracy import ClassAccuracy
from carlt.callbacks.metrics_csv import MetricsCsv, read_rows
from carlt.callbacks.progress import Progress

__all__ = [
    "AtomicCheckpointIO",
    "CarDiagnostics",
    "Checkpoints",
    "ClassAccuracy",
    "MetricsCsv",
    "Progress",
    "read_checkpoint",
    "read_rows",
]
