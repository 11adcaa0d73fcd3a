"""The examples in docstrings run."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import carlt

PACKAGES = ("carlt.functional", "carlt.losses", "carlt.metrics", "carlt.reg")
MODULES = [
    "carlt",
    "carlt.shots",
    "carlt.evaluation.load",
    *(
        f"{package}.{module.name}"
        for package in PACKAGES
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
    ),
]
EXAMPLES = {"carlt.reg.car", "carlt.losses.base", "carlt.losses.logit_adjusted", "carlt.metrics.confusion_counts",
            "carlt.functional.accuracy", "carlt.evaluation.load", "carlt", "carlt.shots"}  # fmt: skip


def test_examples_run(finished: Path) -> None:
    found = set()
    for name in MODULES:
        results = doctest.testmod(importlib.import_module(name), extraglobs={"folder": finished})
        assert results.failed == 0, name
        found |= {name} if results.attempted else set()
    assert found >= EXAMPLES
    assert carlt.__version__


@pytest.mark.parametrize("name", ["CAR", "train", "load_run"])
def test_public_names_have_a_docstring(name: str) -> None:
    target = importlib.import_module("carlt.commands.run").train if name == "train" else getattr(carlt, name)
    assert target.__doc__
