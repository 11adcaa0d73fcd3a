"""Configs of run folders. A folder may come from a stranger: its config is data and is checked before it is used."""

import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from carlt.config import external
from carlt.config.grammar import parse
from carlt.config.overrides import apply_values
from carlt.config.schema import joined_error, node_problems, target_nodes
from carlt.config.shape import NAMED_PARTS, PARTS, PARTS_OR_NULL, shape_problems
from carlt.config.targets import locate
from carlt.errors import CarltError
from carlt.runs import paths
from carlt.runs.config_file import read_config
from carlt.runs.defaults import with_old_defaults
from carlt.runs.keys import AUTOMATIC, MAY_CHANGE_ON_RESUME, is_under
from carlt.runs.renamed import with_new_names

TARGETS = {
    "data": ("carlt.data",),
    "model": ("carlt.models", "carlt.config.given"),
    "loss": ("carlt.losses", "carlt.config.given"),
    "reg": ("carlt.reg", "carlt.config.given"),
    "sampler": ("carlt.samplers",),
    "stage": ("carlt.stages",),
    "optim": ("carlt.training.optim",),
    "logger": ("carlt.training.loggers",),
    "callbacks": ("carlt.training.callbacks",),
    "aug": ("carlt.aug", "torchvision.transforms.v2"),
    "trainer": ("lightning",),
    "recipe": ("carlt.aug",),
}
"""For each node of a config the packages whose public classes it may name."""

KINDS = {
    "data": ("carlt.data.LongTailDataModule",),
    "callbacks": ("lightning.Callback",),
    "aug.view": ("carlt.aug.views.View",),
    "aug.eval_view": ("carlt.aug.Resize",),  # the others draw at random
    "aug.contrast": ("carlt.aug.views.View",),
    "aug.transforms": ("carlt.aug.BatchTransform", "torchvision.transforms.v2.Transform"),
    "aug.mix": ("carlt.aug.Remix", "torchvision.transforms.v2.MixUp", "torchvision.transforms.v2.CutMix"),
    "aug.paste": ("carlt.aug.Paste",),
    "aug.second": ("carlt.aug.SecondBatch",),
    "aug.relabel": ("carlt.aug.SemanticLabels",),
}
"""The classes that a node, or each node of a mapping of names, may name, where its packages in ``TARGETS`` have classes
of other kinds too. Their subclasses count as well."""

BASES = ("carlt.data.LongTailDataModule", "carlt.aug.BatchTransform", "torchvision.transforms.v2.Transform")
"""Classes that are only extended."""

OF_ALL_EPOCHS = ("sampler.epochs", "aug.paste.epochs")
"""Keys whose options refer to ``trainer.max_epochs``."""


def load_config(folder: Path, *, trust: bool = False, word: str = "run") -> DictConfig:
    """The config of the run in ``folder``, brought to today's names, with the defaults that it was recorded under.

    Args:
        trust: allow classes that are not carlt's own (they are imported, so their code runs), and links elsewhere.
        word: the option that named the folder, for messages.

    Raises:
        CarltError: no run folder, a damaged config, or without ``trust`` a ``_target_`` that is not carlt's own, or a
            link that leads out of the folder.
    """
    if not os.path.isfile(folder / paths.CONFIG):
        why = f"is no run folder: it has no {paths.CONFIG}" if os.path.exists(folder) else "does not exist"
        runs = sorted(place.parent.name for place in folder.glob(f"*/{paths.CONFIG}"))
        hint = f", such as {folder / runs[-1]}" if runs else ""
        raise CarltError(f"{word}={folder} {why}; give the folder of a run{hint}")
    if not trust and (links := sorted(paths.links_out_of(folder))):
        raise CarltError(
            f"{links[0]} is a link to {os.path.realpath(links[0])}, outside the run folder, and is not followed. If "
            "you made it, add trust=true"
        )
    plain = with_old_defaults(with_new_names(read_config(folder)))
    if lacking := [key for key in ("data", "model", "aug", "loss", "reg", "optim", "trainer") if key not in plain]:
        raise CarltError(f"{folder / paths.CONFIG} lacks {', '.join(lacking)}: it is damaged, or of another program")
    if not trust and (problems := list(_foreign(plain, folder))):
        raise joined_error(problems)
    if problems := list(shape_problems(plain)) or ([] if trust else list(_misplaced(plain))):
        raise _damaged(folder, problems)
    plain.setdefault("channels_last", False)
    for mapping, names in ((plain, ("callbacks", "logger")), (plain["aug"], ("transforms",))):
        for name in names:
            mapping[name] = mapping.get(name) or {}
    plain["aug"].setdefault("mix", None)
    config = OmegaConf.create(plain)
    assert isinstance(config, DictConfig)
    if problems := [problem for place, node in target_nodes(config) for problem in node_problems(node, place)]:
        raise _damaged(folder, problems)
    return config


def _damaged(folder: Path, problems: Sequence[str]) -> CarltError:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return CarltError(f"{folder / paths.CONFIG} is damaged, or of another program: {problems[0]}{more}")


def resumed_config(folder: Path, overrides: Sequence[str] = (), *, trust: bool = False) -> DictConfig:
    """The config with which the run in ``folder`` is resumed. ``overrides`` may change its length and its paths.

    What changes is recorded under ``resumed`` in the config, with the epoch from which it holds; ``carlt.train`` fills
    in that epoch.

    Raises:
        CarltError: see :func:`load_config`; an override of a value that a running training cannot take.
    """
    config = load_config(folder, trust=trust, word="resume")
    before = config.copy()
    parsed = [override for text in overrides if (override := parse(text, []))]
    apply_values(config, overrides)
    refused = [
        f"{o.key_or_group}: a resumed run keeps it, because its first epochs were trained so; start a new run for "
        f"another value (what may change: {', '.join(MAY_CHANGE_ON_RESUME)})"
        for o in parsed
        if not is_under(o.key_or_group, MAY_CHANGE_ON_RESUME)
    ]
    if refused:
        raise joined_error(refused)
    for place in OF_ALL_EPOCHS:  # they followed the length when the run began
        if OmegaConf.select(config, place) == before.trainer.max_epochs:
            OmegaConf.update(config, place, config.trainer.max_epochs)
    changed = {
        o.key_or_group: OmegaConf.select(config, o.key_or_group)
        for o in parsed
        if OmegaConf.select(config, o.key_or_group) != OmegaConf.select(before, o.key_or_group)
    }
    if str(devices := changed.get("trainer.devices")) in AUTOMATIC:
        raise CarltError(
            f"trainer.devices={devices}: the record of a resumed run needs their number; give trainer.devices=<number>"
        )
    if changed:
        config.resumed = [*(config.get("resumed") or []), {"from_epoch": None, "values": changed}]
    if "${" in str(folder):
        raise CarltError(f"resume={folder}: '${{' in a folder's name is a reference in a config; rename the folder")
    config.resume = str(folder)
    return config


def without_initial_weights(config: DictConfig) -> DictConfig:
    """A copy of ``config`` for a network whose weights come from a checkpoint: it reads no other file of weights."""
    result = config.copy()
    with open_dict(result):
        for name in ("weights", "pretrained"):
            result.model.pop(name, None)
    return result


def _foreign(plain: dict[str, Any], folder: Path) -> Iterator[str]:
    """The nodes that name a class which their place in a config may not have."""
    for place, target, parent in _stored_targets(plain, ""):
        allowed = TARGETS.get(place.partition(".")[0], ())
        if not any(_is_public(target, package) for package in allowed):
            yield (
                f"{folder / paths.CONFIG}: {place} names {target!r}, which is not a part of carlt; loading it would "
                "run its code. If the folder and the code are your own, add trust=true"
            )
        elif place == "trainer" and (
            objects := [key for key in parent if key not in ("_target_", *external.TRAINER_VALUES)]
        ):
            yield f"{folder / paths.CONFIG}: trainer.{objects[0]} is not a value that a run folder may set"


def _misplaced(plain: dict[str, Any]) -> Iterator[str]:
    """The nodes whose class is carlt's, but not of the kind that is built in their place."""
    for place, target, _ in _stored_targets(plain, ""):
        around = place.rpartition(".")[0]
        kinds = KINDS.get(around if around in NAMED_PARTS else place)
        known = place in (*PARTS, *PARTS_OR_NULL) or around in NAMED_PARTS or place.startswith(("reg.", "recipe."))
        found: Any = locate(target)
        if not known:
            yield f"{place} is no part of a run, but names {target}"
        elif kinds and not (target not in BASES and isinstance(found, type) and issubclass(found, _classes(kinds))):
            yield f"{place} names {target}, which does not fit there; if the folder is your own, add trust=true"


def _classes(names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(locate(name) for name in names)


def _stored_targets(node: Any, place: str) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    if isinstance(node, list):
        for item in node:
            yield from _stored_targets(item, place)
    elif isinstance(node, dict):
        if "_target_" in node:
            yield place, node["_target_"], node
        for key, value in node.items():
            if place or key != "init":  # a record of the first stage; nothing is built from it
                yield from _stored_targets(value, f"{place}.{key}" if place else str(key))


def _is_public(target: Any, package: str) -> bool:
    """Whether ``target`` names a public class of ``package``; nothing but ``package`` itself is imported."""
    if not isinstance(target, str):
        return False
    module, _, name = target.rpartition(".")
    if module != package or name.startswith("_"):
        return False
    if package == "lightning":
        return name == "Trainer"
    found = importlib.import_module(package)
    if package == "torchvision.transforms.v2":
        value = getattr(found, name, None)
        return isinstance(value, type) and issubclass(value, found.Transform) and name != "Lambda"
    return name in getattr(found, "__all__", ())
