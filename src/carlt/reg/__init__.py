"""Regularizers: (logits (N, C), targets) -> a scalar to add to any loss. Needs torch only."""

from carlt.reg.car import CAR
from carlt.reg.none import NoRegularizer

__all__ = ["CAR", "NoRegularizer"]
