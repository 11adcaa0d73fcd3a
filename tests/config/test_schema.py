from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from carlt.config.compose import compose_config, conf_dir
from carlt.config.instantiate import build
from carlt.config.schema import node_problems, suggest, validate
from carlt.config.targets import parameters_of
from carlt.errors import CarltError
from carlt.ranges import describe_type, matches


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, int, True),
        (True, int, False),
        (1.5, int, False),
        (1, float, True),
        (True, float, False),
        ("1", float, False),
        ("a", str, True),
        (1, str, False),
        ("a", Path, True),
        (1, bool, False),
        (None, None, True),
        (0, None, False),
        (None, float | None, True),
        (2, float | None, True),
        ("x", float | None, False),
        ("cosine", Literal["cosine", "constant"], True),
        ("linear", Literal["cosine", "constant"], False),
        ([0.5, 1], tuple[float, float], True),
        ([0.5], tuple[float, float], False),
        ([0.5, "x"], tuple[float, float], False),
        ("ab", tuple[str, str], False),
        ([1, 2, 3], tuple[int, ...], True),
        ([], Sequence[float], True),
        ([0.8, "x"], Sequence[float], False),
        ("abc", list[str], False),
        (object(), Any, True),
    ],
)
def test_fits(value: Any, kind: Any, expected: bool) -> None:
    assert matches(value, kind) is expected


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (float | None, "a finite number or null"),
        (Literal["a", "b"], "one of a, b"),
        (tuple[float, float], "a list of a finite number, a finite number"),
        (tuple[int, ...], "a list of an integer"),
        (Path, "Path"),
    ],
)
def test_describe(kind: Any, words: str) -> None:
    assert describe_type(kind) == words


def test_suggest_names_the_nearest_and_all() -> None:
    assert suggest("imagnet", ["cifar", "imagenet"]) == "did you mean imagenet? choose from cifar, imagenet"
    assert suggest("xyz", ["cifar"]) == "choose from cifar"
    assert suggest("xyz", []) == "it takes nothing"


def test_a_signature_follows_keyword_arguments_into_the_parents() -> None:
    parameters = parameters_of("carlt.training.optim.AdamW")
    assert {"lr", "betas", "weight_decay", "min_lr"} <= parameters.keys()
    assert parameters["decay_all"].default is False  # the child's own default
    assert "common" not in parameters


@pytest.mark.parametrize("target", ["carlt.nothing.X", "carlt.training.optim.Adagrad", "Adam"])
def test_a_target_that_does_not_exist(target: str) -> None:
    with pytest.raises(CarltError, match=f"_target_={target} cannot be imported"):
        parameters_of(target)


def problems(**values: Any) -> list[str]:
    return list(node_problems(OmegaConf.create({"_target_": "carlt.reg.CAR", **values}), "reg"))


def test_a_node_without_mistakes() -> None:
    assert problems(weight=1, surrogate="released") == []


def test_an_unknown_key_names_place_target_and_choices() -> None:
    (problem,) = problems(lamda=1)
    assert problem.startswith("reg.lamda: reg (carlt.reg.CAR) takes no 'lamda'; ")
    assert "weight" in problem
    assert "class_counts" not in problem  # not the user's to set


def test_a_wrong_type_names_place_value_and_type() -> None:
    assert problems(weight="abc") == ["reg.weight='abc': expected a finite number, at least 0"]


def test_a_wrong_choice_names_the_choices() -> None:
    assert problems(surrogate="papr") == ["reg.surrogate='papr': expected one of paper, released"]


def test_all_mistakes_are_reported_at_once_with_their_places() -> None:
    config = OmegaConf.create(
        {
            "reg": {"_target_": "carlt.reg.CAR", "weight": "abc", "beat": 0.5},
            "aug": {"view": {"_target_": "carlt.aug.CropFlip", "padding": 1.5}},
            "optim": {"_target_": "carlt.training.optim.SGD"},
            "model": {"_target_": "carlt.models.Missing"},
        }
    )
    with pytest.raises(CarltError) as error:
        validate(config)
    lines = str(error.value).splitlines()
    assert len(lines) == 5
    for part in ("reg.weight='abc'", "reg.beat", "aug.view.padding=1.5", "optim.lr is required", "model: _target_="):
        assert sum(part in line for line in lines) == 1, part


def test_a_mandatory_value_is_reported() -> None:
    with pytest.raises(CarltError, match=r"model.*name"):
        validate(compose_config("train", ["model=timm"]))


def test_build_gives_what_the_constructor_takes_and_no_more() -> None:
    config = OmegaConf.create({"loss": {"_target_": "carlt.losses.LogitAdjusted", "tau": 2.0}})
    loss = build(config, "loss", class_counts=[2, 8], num_classes=2, image_size=32)
    assert loss.adjustment.exp().tolist() == pytest.approx([0.04, 0.64])


def test_a_config_s_own_value_wins_over_an_injected_one() -> None:
    config = OmegaConf.create({"aug": {"view": {"_target_": "carlt.aug.Resize", "image_size": 4}}})
    import torch

    assert build(config, "aug.view", image_size=8).image(torch.zeros(1, 16, 16, dtype=torch.uint8)).shape == (1, 4, 4)


def test_conf_lies_in_the_package_or_the_checkout() -> None:
    assert (conf_dir() / "train.yaml").is_file()


@pytest.mark.parametrize(
    ("target", "values", "said"),
    [
        ("carlt.reg.CAR", {"beta": 2}, r"reg: beta=2: expected a finite number in"),
        ("lightning.Trainer", {"devices": 0}, r"reg \(lightning.Trainer\): "),
    ],
)
def test_a_refused_value_is_one_line_that_names_the_place(target: str, values: dict[str, int], said: str) -> None:
    config = OmegaConf.create({"reg": {"_target_": target, **values}})
    with pytest.raises(CarltError, match=said) as error:
        build(config, "reg", class_counts=[2, 8], num_classes=2)
    assert "\n" not in str(error.value)
