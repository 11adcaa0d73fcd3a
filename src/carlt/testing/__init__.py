"""Checks of a part of one's own, the same that carlt's tests run on carlt's parts.

>>> from carlt.losses import CrossEntropy
>>> from carlt.testing import check_loss
>>> check_loss(CrossEntropy)

Each function takes the class and values for its constructor, and raises an ``AssertionError`` that names the first
promise which the part breaks. In a test of pytest one line is enough: ``check_loss(MyLoss, temperature=2.0)``.
"""

from carlt.testing.data_sets import check_data
from carlt.testing.losses import check_loss
from carlt.testing.networks import check_model
from carlt.testing.options import check_options
from carlt.testing.regularizers import check_regularizer
from carlt.testing.samplers import check_sampler
from carlt.testing.stages import check_stage
from carlt.testing.views import check_view

__all__ = [
    "check_data",
    "check_loss",
    "check_model",
    "check_options",
    "check_regularizer",
    "check_sampler",
    "check_stage",
    "check_view",
]
