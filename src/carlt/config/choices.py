"""The names of the options that a config was composed of."""

from typing import Any

from omegaconf import DictConfig

from carlt.config.grammar import COMBINABLE, NAMED, parse

EMPTY = {"aug": "standard", "logger": "csv", "reg": "none"}
"""The option that equals an empty list of options, as in ``aug=[]``."""


def named_choices(config: DictConfig, hydra: Any) -> dict[str, str]:
    """The option of each group; the names of combined options are joined by ``+``, as in ``randaugment+mixup``.

    Hydra's ``runtime.choices`` leaves out a group whose options are combined, so those come from the command line.
    """
    other = ("hydra", "launcher", "sweep")
    chosen = {group: name for group, name in hydra.runtime.choices.items() if not group.startswith(other)}
    for override in (found for text in hydra.overrides.task if (found := parse(text, [])) is not None):
        group = override.key_or_group
        if group in COMBINABLE and isinstance(names := override.value(), list):
            chosen[group] = "+".join(map(str, names)) or EMPTY[group]
        part, _, key = group.partition(".")
        if key == "_target_" and part in chosen:  # a class in place of the option's, as in loss._target_=mine.MyLoss
            chosen[part] = str(override.value()).rpartition(".")[2]
    for group in NAMED:
        places = {name: f"{group}@{group}.{name}" for name in config[group]}
        if parts := [chosen.pop(place) for place in places.values() if place in chosen]:
            chosen[group] = "+".join(parts)
    return chosen
