"""The options that a run's record names."""

import itertools

import pytest

from carlt.commands.run import config_of_run
from carlt.config.compose import options
from carlt.config.overrides import COMBINABLE, compose_checked


def choices(*overrides: str) -> dict[str, str]:
    composed = compose_checked("train", overrides)
    return dict(config_of_run(composed, composed.hydra).choices)


@pytest.mark.parametrize("group", COMBINABLE)
def test_every_combination_is_named(group: str) -> None:
    for first, second in itertools.islice(itertools.combinations(options(group), 2), 12):  # none excludes another
        assert choices(f"{group}=[{first},{second}]")[group] == f"{first}+{second}"


@pytest.mark.parametrize(("text", "name"), [("[mixup]", "mixup"), ("[]", "standard"), ("cutmix", "cutmix")])
def test_one_option_and_none_have_their_own_name(text: str, name: str) -> None:
    assert choices(f"aug={text}")["aug"] == name


def test_a_class_in_place_of_an_options_is_what_the_record_names() -> None:
    found = choices("loss._target_=carlt.losses.Focal", "loss.gamma=1", "reg=car")
    assert (found["loss"], found["reg"]) == ("Focal", "car")  # and not ce, which a report would take for the baseline
