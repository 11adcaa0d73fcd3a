"""Losses: (logits (N, C), labels (N,) or soft labels (N, C)) to the mean over the batch, a scalar.

A loss that needs more than logits has a method ``compute_loss`` and runs the network itself (``step.py``);
``contrast_views`` is the number of further views of each image that it needs.
"""

from carlt.losses.balanced_contrastive import BalancedContrastive
from carlt.losses.class_balanced import ClassBalanced, ClassBalancedFocal, SoftmaxBCE
from carlt.losses.cross_entropy import CrossEntropy
from carlt.losses.focal import Focal
from carlt.losses.generalized_reweight import GeneralizedReweight
from carlt.losses.glmc import GLMC
from carlt.losses.gml_nolb import GMLNOLB
from carlt.losses.inverse_frequency import InverseFrequency
from carlt.losses.label_aware_smoothing import LabelAwareSmoothing
from carlt.losses.label_smoothing import LabelSmoothing
from carlt.losses.lade import LADE
from carlt.losses.ldam import LDAM
from carlt.losses.logit_adjusted import BalancedSoftmax, LogitAdjusted
from carlt.losses.paco import PaCo
from carlt.losses.ride import RIDE
from carlt.losses.seesaw import Seesaw
from carlt.losses.vector_scaling import VectorScaling

__all__ = [
    "GLMC",
    "GMLNOLB",
    "LADE",
    "LDAM",
    "RIDE",
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
    "PaCo",
    "Seesaw",
    "SoftmaxBCE",
    "VectorScaling",
]
