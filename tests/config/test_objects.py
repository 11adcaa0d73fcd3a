"""Python values in Hydra's grammar."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from carlt import CAR
from carlt.config.objects import from_python
from carlt.data import CIFAR100LT, TinyImageNetLT
from carlt.losses import GMLNOLB
from carlt.models import CifarResNet, timm_model
from carlt.reg import NoRegularizer
from carlt.samplers import ClassBalanced, Instance, SquareRoot


@pytest.mark.parametrize(
    "value",
    ["car", "a b", "it's", "'", "null", "True", "1e3", "7", "", "C:\\photos\\", "\\'", "x=y,z", "grün", "~/a", "-m", 3,
     0.5, 1e-7, np.int64(3), True, None, ["a b", 1, None, [2.5]], (1, 2)],
)  # fmt: skip
def test_a_value_arrives_as_it_is(value: Any) -> None:
    with from_python({"key.name": value}) as found:
        (word,) = found.words
    (override,) = OverridesParser.create().parse_overrides([word])
    assert override.key_or_group == "key.name"
    assert override.value() == (list(value) if isinstance(value, tuple) else value)


def test_dictionaries_and_paths() -> None:
    with from_python({"trainer": {"max_epochs": 3}, "data": {"root": Path("a b")}, "seed": 1}) as found:
        assert found.words == ["trainer.max_epochs=3", "data.root='a b'", "seed=1"]


@pytest.mark.parametrize(
    ("part", "made", "words"),
    [
        ("model", functools.partial(CifarResNet, depth=8, experts=2), ["model=resnet8", "model.experts=2"]),
        ("model", functools.partial(CifarResNet, depth=14), ["model=CifarResNet"]),
        ("model", functools.partial(timm_model, name="resnet50"), ["model=resnet50"]),
        ("reg", CAR, ["reg=car"]),
        ("reg", CAR([9, 3], absent="hold", beta=0.9, debias=True, gradient="class"), ["reg=car_held"]),
        ("loss", GMLNOLB([9, 3]), ["loss=gml_nolb"]),
        ("reg", NoRegularizer(), ["reg=none"]),
        ("sampler", Instance(), ["sampler=instance"]),
        ("sampler", ClassBalanced(), ["sampler=class_balanced"]),
        ("sampler", SquareRoot(), ["sampler=square_root"]),
        ("data", CIFAR100LT(root=Path("x"), imbalance_factor=10),
         ["data=cifar100_lt", "data.imbalance_factor=10", "data.root=x"]),
    ],
)  # fmt: skip
def test_an_object_finds_its_option(part: str, made: Any, words: list[str]) -> None:
    with from_python({part: made}) as found:
        assert found.words == words
    assert found.class_counts == ({part: [9, 3]} if isinstance(made, CAR | GMLNOLB) else {})


def test_the_number_of_classes_of_a_data_set_is_its_own() -> None:
    with from_python({"data": TinyImageNetLT(root="x", num_classes=100)}) as given:
        assert "data.num_classes=100" in given.words
