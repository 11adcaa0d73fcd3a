"""Runs that were recorded under other defaults keep them; the table of old defaults names what exists."""

from typing import Any

import pytest

from carlt.config.stored import TARGETS
from carlt.config.targets import parameters_of
from carlt.runs import renamed
from carlt.runs.defaults import KEY, OLD, VERSION, with_old_defaults

CASES = [
    (place, name, values)
    for places in OLD.values()
    for place, classes in places.items()
    for name, values in classes.items()
]


@pytest.mark.parametrize(("place", "name", "values"), CASES)
def test_an_old_default_is_a_parameter_that_has_another_one_today(
    place: str, name: str, values: dict[str, Any]
) -> None:
    target = values.get("_target_") or f"{TARGETS[place][0]}.{name}"
    parameters = parameters_of(renamed.CLASSES.get(target, target))
    plain = {key: value for key, value in values.items() if key != "_target_"}
    assert plain.keys() <= parameters.keys()
    if place != "optim":  # whose configs name gamma today, and did not
        assert all(parameters[key].default != value for key, value in plain.items())


def test_an_old_config_gets_them_and_what_it_chose_stays() -> None:
    old = {"loss": {"_target_": "carlt.losses.Seesaw", "p": 0.5}, "stage": None, "sampler": {}}
    filled = with_old_defaults(old)
    assert filled["loss"] == {"_target_": "carlt.losses.Seesaw", "p": 0.5, "eps": 0.0}
    assert filled[KEY] == VERSION
    assert with_old_defaults({**old, "loss": {**old["loss"], "eps": 0.1}})["loss"]["eps"] == 0.1
    assert with_old_defaults(filled) is filled
    assert old["loss"] == {"_target_": "carlt.losses.Seesaw", "p": 0.5}
    new = {**old, KEY: VERSION}
    assert with_old_defaults(new) == new
    focal = with_old_defaults({"loss": {"_target_": "carlt.losses.ClassBalancedFocal", "gamma": 1.0}})["loss"]
    assert focal == {"_target_": "carlt.losses.Focal", "gamma": 1.0, "effective_number_beta": 0.9999}


@pytest.mark.parametrize(
    ("version", "over"), [({}, "others"), ({KEY: 2}, "others"), ({KEY: [2]}, "others"), ({KEY: 3}, None)]
)
def test_a_config_gets_the_defaults_of_its_version(version: dict[str, Any], over: str | None) -> None:
    smoothing = {"_target_": "carlt.losses.LabelAwareSmoothing"}
    seesaw = {"_target_": "carlt.losses.Seesaw"}
    assert with_old_defaults({**version, "loss": smoothing})["loss"].get("over") == over
    assert ("eps" in with_old_defaults({**version, "loss": seesaw})["loss"]) == (version.get(KEY) not in (2, 3))
