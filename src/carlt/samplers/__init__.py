"""Samplers: which images an epoch shows, in which order, and how that order is cut into batches."""

from carlt.samplers.rules import (
    ClassAware,
    ClassBalanced,
    Deferred,
    Instance,
    PowerLaw,
    ProgressivelyBalanced,
    Sampler,
    SquareRoot,
)
from carlt.samplers.schedule import BatchSchedule

__all__ = [
    "BatchSchedule",
    "ClassAware",
    "ClassBalanced",
    "Deferred",
    "Instance",
    "PowerLaw",
    "ProgressivelyBalanced",
    "Sampler",
    "SquareRoot",
]
