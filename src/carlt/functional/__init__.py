"""Pure functions on tensors: torch only, no modules, no state, no logging."""

from carlt.functional.adjustment import tau_normalized, without_prior
from carlt.functional.confusion import (
    accumulate_confusion_,
    batch_confusion,
    contributions,
    mean_confusion,
    relative_gap,
)
from carlt.functional.prior import (
    effective_number_weights,
    frequency_weights,
    logit_adjustment,
    relative_frequency,
)
from carlt.functional.spectral import leading_triplet

__all__ = [
    "accumulate_confusion_",
    "batch_confusion",
    "contributions",
    "effective_number_weights",
    "frequency_weights",
    "leading_triplet",
    "logit_adjustment",
    "mean_confusion",
    "relative_frequency",
    "relative_gap",
    "tau_normalized",
    "without_prior",
]
