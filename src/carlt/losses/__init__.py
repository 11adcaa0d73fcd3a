"""Losses: (logits (N, C), labels (N,) or soft labels (N, C)) to the mean over the batch, a scalar.

A contrastive loss (``contrast_views`` above 0) takes an embedding of further views and the labels besides.
"""

from carlt.losses.balanced_contrastive import BalancedContrastive
from carlt.losses.class_balanced import ClassBalanced, ClassBalancedFocal
from carlt.losses.cross_entropy import CrossEntropy
from carlt.losses.focal import Focal
from carlt.losses.generalized_reweight import GeneralizedReweight
from carlt.losses.gml_nolb import GMLNOLB
from carlt.losses.inverse_frequency import InverseFrequency
from carlt.losses.label_aware_smoothing import LabelAwareSmoothing
from carlt.losses.label_smoothing import LabelSmoothing
from carlt.losses.lade import LADE
from carlt.losses.ldam import LDAM
from carlt.losses.logit_adjusted import BalancedSoftmax, LogitAdjusted
from carlt.losses.seesaw import Seesaw
from carlt.losses.vector_scaling import VectorScaling

__all__ = [
    "GMLNOLB",
    "LADE",
    "LDAM",
    "BalancedContrastive",
    "BalancedSoftmax",
    "ClassBalanced",
    "ClassBalancedFocal",
    "CrossEntropy",
    "Focal",
    "GeneralizedReweight",
    "InverseFrequency",
    "LabelAwareSmoothing",
    "LabelSmoothing",
    "LogitAdjusted",
    "Seesaw",
    "VectorScaling",
]
