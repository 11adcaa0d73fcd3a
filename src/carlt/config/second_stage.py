"""``stage=crt init_run=<run folder>``: the first run's config, but for what the stage chooses."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from carlt.config import command_line
from carlt.config.command_line import first, parse, parse_all, text
from carlt.config.schema import compose_config, group_dir, options, report
from carlt.errors import CarltError
from carlt.runs import paths

OF_STAGE = ("stage", "loss", "sampler", "optim")  # every option of conf/stage chooses these
OF_COMMAND = ("logger", "callbacks", "resume", "init_run", "objective", "choices", "init")
FIXED = ("data", "model", "family", "recipe", "preset")
RECORDED = ("loss", "reg", "sampler", "aug", "optim")
PLAIN = ("none", "instance", "standard", "None")


def asked(overrides: Sequence[str]) -> bool:
    """Whether a command line asks for a second stage."""
    return any(o.startswith(("stage=", "init_run=")) for o in overrides if not o.endswith("=null"))


def check_overrides(config_name: str, overrides: Sequence[str]) -> list[str]:
    """``overrides`` as Hydra wants them. Groups are Hydra's to compose; values are for the first run's config, so Hydra
    takes them unseen (``++``) and ``staged`` puts them in their place.

    Raises:
        CarltError: lists what is wrong, of a sweep with the first of its values.
    """
    problems: list[str] = []
    parsed = parse_all(overrides, problems)
    values = [o for o in parsed if _is_value(o.key_or_group)]
    others = [o for o in parsed if o not in values]
    keys = {o.key_or_group for o in others}
    problems += [
        f"{text(o)}: a stage has the {o.key_or_group} of its first run; only values change, e.g. data.root=<folder>"
        for o in others
        if o.key_or_group in FIXED
    ]
    if "stage" not in keys:
        problems.append(f"init_run= is for a stage: add stage=..., one of {', '.join(options('stage'))}")
    if "init_run" not in keys:
        problems.append("a stage trains the classifier of a run once more: give init_run=<run folder>")
    if problems:
        raise report(problems)
    checked = command_line.check_overrides(config_name, [text(o) for o in others])
    for run in next(command_line.choices(o) for o in others if o.key_or_group == "init_run"):
        composed = compose_config(config_name, [first(o) for o in others if not o.key_or_group.startswith("hydra")])
        OmegaConf.set_struct(composed, False)
        composed.init_run, composed.choices = str(run), {}
        staged(composed, [first(o) for o in others + values])
    return [*checked, *("++" + text(o).lstrip("+") for o in values), *_folders(keys, others)]


def staged(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The config of a second stage: ``config`` as Hydra composed it, on the run folder in ``config.init_run``.

    The first run's values hold, also its regularizer's, but for loss, sampler, optimizer, epochs and what mixes images;
    ``overrides``, all of the command line's, hold before both.

    Raises:
        CarltError: no run folder, or one of a stage itself; an override that does not fit.
    """
    folder = Path(config.init_run).absolute()
    stored = _stored(folder)
    parsed = [override for each in overrides if (override := parse(each, []))]
    chosen = {*OF_STAGE, *OF_COMMAND, *(o.key_or_group for o in parsed if group_dir(o.key_or_group))}
    result = config.copy()
    OmegaConf.set_struct(result, False)
    for name in stored:
        if name not in chosen and name not in ("aug", "trainer"):
            result[name] = stored[name]
    for name in ("view", "eval_view"):
        result.aug[name] = stored.aug[name]
    if "aug" not in chosen:
        result.aug.transforms = stored.aug.get("transforms") or {}
    if "trainer" not in chosen:
        result.trainer = OmegaConf.merge(stored.trainer, {"max_epochs": config.trainer.max_epochs})
    for name in ("weights", "pretrained"):  # the first run's weights stand for those
        result.model.pop(name, None)
    names: dict[str, Any] = dict(stored.get("choices") or {})
    kept = {group: name for group, name in names.items() if group not in chosen and group not in ("preset", "init")}
    own = {group: name for group, name in config.choices.items() if group in chosen}
    result.choices = {**kept, **own, "init": _label(stored, names)}
    result.init_run = str(folder)
    result.init = {
        "weights": _sha256(paths.checkpoint(folder, "last")),
        "epochs": stored.trainer.max_epochs,
        **{name: stored[name] for name in RECORDED if name in stored},
    }
    values = [text(o).lstrip("+") for o in parsed if _is_value(o.key_or_group)]
    command_line.apply_values(result, values)
    return result


def _is_value(key: str) -> bool:
    return not (group_dir(key) or key == "init_run" or key.startswith("hydra"))


def _stored(folder: Path) -> DictConfig:
    for name in (paths.CONFIG, f"{paths.CHECKPOINTS}/last.ckpt"):
        if not (folder / name).is_file():
            raise CarltError(f"init_run={folder} is no run folder: it has no {name}")
    stored = OmegaConf.load(folder / paths.CONFIG)
    if not isinstance(stored, DictConfig) or not {"data", "model", "aug", "trainer"} <= stored.keys():
        raise CarltError(f"init_run={folder}: its {paths.CONFIG} is damaged")
    if stored.get("stage"):
        raise CarltError(
            f"init_run={folder} is a second stage itself; a stage begins with its first: {stored.init_run}"
        )
    return stored


def _label(stored: DictConfig, names: dict[str, Any]) -> str:
    """The first run in a word, for tables: ce, focal+car. Old runs have no names of options, but classes."""
    targets = [str(stored[name].get("_target_")).rpartition(".")[2] for name in ("loss", "reg") if name in stored]
    found = [str(names[name]) for name in RECORDED[:-1] if name in names] if names else targets
    return "+".join(name for name in found if name not in PLAIN)


def _folders(keys: set[str], others: Sequence[Any]) -> list[str]:
    """Where runs go unless the command says so: what they are called by default names data and model, here those of no
    run."""
    run = next(str(command_line.choices(o)[0]) for o in others if o.key_or_group == "init_run")
    name, stage = Path(run).absolute().name, "${hydra:runtime.choices.stage}"
    defaults = {
        "hydra.run.dir": f"'runs/stages/{name}_{stage}_${{now:%Y%m%d-%H%M%S}}'",
        "hydra.sweep.subdir": f"'${{hydra.job.num}}_{stage}'",
    }
    return [f"{key}={value}" for key, value in defaults.items() if key not in keys]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
