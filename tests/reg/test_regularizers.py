"""What every regularizer promises: found by its file, with the values that the file has."""

import pytest
from omegaconf import OmegaConf

from carlt import reg
from carlt.config.compose import option_file, options
from carlt.config.instantiate import plain_values
from carlt.config.targets import locate
from carlt.reg import ConfidencePenalty, SumOfRegularizers
from carlt.testing import regularizers as checks
from carlt.testing.part import Check, Part


def part(name: str) -> Part:
    """The regularizer of ``reg=name``."""
    values = plain_values(OmegaConf.load(option_file("reg", name)))
    kind = locate(values.pop("_target_"))
    return Part(kind, values) if kind is not SumOfRegularizers else Part(kind, {"one": ConfidencePenalty()})


PARTS = [part(name) for name in options("reg")]


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("part", PARTS, ids=options("reg"))
def test_every_regularizer(part: Part, check: Check) -> None:
    """The checks of ``carlt.testing.check_regularizer``, each by itself."""
    check(part)


def test_every_regularizer_has_a_file() -> None:
    assert {part.kind for part in PARTS} == {getattr(reg, name) for name in reg.__all__}
