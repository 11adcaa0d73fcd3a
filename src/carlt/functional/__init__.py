"""Pure functions on tensors: torch only, no modules, no state, no logging."""

from carlt.functional.adjustment import tau_normalized, without_prior
from carlt.functional.confusion import (
    accumulate_confusion_,
    batch_confusion,
    contributions,
    mean_confusion,
    relative_gap,
)
from carlt.functional.offsets import ClassOffsets, class_offsets
from carlt.functional.prior import (
    class_margins,
    effective_number_weights,
    frequency_weights,
    logit_adjustment,
    relative_frequency,
)
from carlt.functional.spectral import leading_triplet, perron_vector

__all__ = [
    "ClassOffsets",
    "accumulate_confusion_",
    "batch_confusion",
    "class_margins",
    "class_offsets",
    "contributions",
    "effective_number_weights",
    "frequency_weights",
    "leading_triplet",
    "logit_adjustment",
    "mean_confusion",
    "perron_vector",
    "relative_frequency",
    "relative_gap",
    "tau_normalized",
    "without_prior",
]
