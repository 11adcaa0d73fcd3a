"""carlt's own checks on the methods of this folder."""

from pathlib import Path

from own_methods.data import Stripes
from own_methods.loss import ProbabilityLoss
from own_methods.network import MLP
from own_methods.regularizer import LogitPenalty
from own_methods.stage import BiasOnly
from own_methods.view import Roll

from carlt import testing

CONF = Path(__file__).parent / "own_methods" / "conf"


def test_loss() -> None:
    testing.check_loss(ProbabilityLoss, temperature=2.0)


def test_regularizer() -> None:
    testing.check_regularizer(LogitPenalty, weight=0.1)


def test_network() -> None:
    testing.check_model(MLP, width=16)


def test_data() -> None:
    testing.check_data(Stripes, image_size=12)


def test_view() -> None:
    testing.check_view(Roll)


def test_stage() -> None:
    testing.check_stage(BiasOnly)


def test_options() -> None:
    """Every file of ``conf/`` composes, fits its class, and trains for a step."""
    assert len(testing.check_options(CONF)) == 6
