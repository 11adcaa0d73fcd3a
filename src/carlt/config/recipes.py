"""Which recipe a command line takes, and choices that do not fit the recipe's optimizer and learning rate."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carlt.config.compose import compose_config

FINE_TUNING = "recipe=finetune_${family}"
"""The recipe of a command line with pretrained weights that names none."""

ADAPTING = "recipe=adapter"
"""The same where an adapter is trained."""

MEASURED = ("trainer.precision", "channels_last")
"""What the recipes of one's own images leave to the machine (``auto``); published recipes, which fine-tuning shares,
compute in float32."""

DECIDE = ("data", "model", "family", "recipe", "preset", "stage")
"""Groups that decide the optimizer and its learning rate."""

Given = Mapping[str, list[Any]]
"""The keys of a command line with their values, several in a sweep."""


def implied_recipe(given: Given) -> list[str]:
    """The recipe that pretrained weights or an adapter imply where a command line leaves it open, as overrides.

    A file of weights may be of any training, so only for one's own images, which have no published recipe, it implies
    fine-tuning.
    """
    if {"recipe", "preset"} & given.keys():
        return []
    own = given.get("data") == ["image_folder"]
    adapts = None not in given.get("model.adapter", [None])
    pretrained = set(given.get("model.pretrained", [])) == {True}
    if not (adapts or pretrained or (own and None not in given.get("model.weights", [None]))):
        return []
    automatic = [f"{key}=auto" for key in MEASURED if own and key not in given]
    return [ADAPTING if adapts else FINE_TUNING, *automatic]


def family_problems(given: Given) -> Iterator[str]:
    """``model=timm`` stands for every network of timm, so its family has to be given: it chooses the recipe. The jobs
    of a sweep cannot each imply another one."""
    pretrained, adapters = set(given.get("model.pretrained", [])), given.get("model.adapter", [])
    mixed = (
        "model.pretrained" if {True} < pretrained else "model.adapter" if None in adapters and len(adapters) > 1 else ""
    )
    if mixed and not {"recipe", "preset"} & given.keys():
        yield f"{mixed}: its values imply different recipes; add recipe=<name>, or give each its own command"
    if "timm" in given.get("model", []) and not {"family", "recipe"} & given.keys():
        yield (
            "model=timm: add family=cnn (ResNets: SGD and its recipe) or family=vit (transformers, ConvNeXt: AdamW and "
            "its recipe)"
        )


def optimizer_problems(config_name: str, given: Given, groups: Sequence[str]) -> Iterator[str]:
    """Another optimizer than that of the recipe, preset or stage, at the learning rate that they have for their own.

    Args:
        groups: the command line's choices of options, ``group=option``; of a sweep the first ones.
    """
    if "optim" not in given or "optim.lr" in given:
        return
    swept = [key for key in DECIDE if len(given.get(key, [])) > 1]
    others = [word for word in groups if word.partition("=")[0] not in (*swept, "optim")]
    for values in itertools.product(*(given[key] for key in swept)):
        words = others + [
            f"{key}={'null' if value is None else value}" for key, value in zip(swept, values, strict=True)
        ]
        recipe = compose_config(config_name, words).optim
        for name in given["optim"]:
            chosen = compose_config(config_name, [*words, f"optim={name}"]).optim
            if chosen._target_ != recipe._target_ and chosen.get("lr") == recipe.lr:
                own = str(recipe._target_).rpartition(".")[2]
                yield (
                    f"optim={name}: the learning rate {chosen.lr} that it would have is for {own}; add optim.lr=<rate>,"
                    " or choose a recipe for this optimizer with recipe=<name>"
                )
