"""Regularizers: (logits (N, C), targets) -> a scalar to add to any loss. Needs torch only."""

from carlt.reg.car import CAR
from carlt.reg.confidence_penalty import ConfidencePenalty
from carlt.reg.none import NoRegularizer
from carlt.reg.sum_of_regularizers import SumOfRegularizers

__all__ = ["CAR", "ConfidencePenalty", "NoRegularizer", "SumOfRegularizers"]
