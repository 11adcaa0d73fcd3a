"""``stage=crt init_run=<run folder>``: the config of the first run, except for what the stage chooses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from carlt.config.choices import named_choices
from carlt.config.compose import compose_config, is_group, options
from carlt.config.grammar import choices, first, parse, parse_all, text_of
from carlt.config.overrides import apply_values, compose_checked
from carlt.config.schema import joined_error
from carlt.config.stored import load_config, without_initial_weights
from carlt.errors import CarltError
from carlt.runs import paths
from carlt.runs.text import command_line

CHOSEN_BY_STAGE = ("stage", "loss", "sampler", "optim")
"""Groups that every option of conf/stage chooses."""
OF_THIS_RUN = ("logger", "callbacks", "resume", "resumed", "init_run", "objective", "choices", "init", "trust")
"""Keys that a second stage takes from its own command and never from the first run."""
BY_DATA = "by_data"
"""Key of an option of conf/stage: its values for single data sets, by their name and, with ``_``, imbalance factor."""
FIXED = ("data", "model", "family", "recipe", "preset")
RECORDED = ("loss", "reg", "sampler", "aug", "optim")
PLAIN = ("none", "instance", "standard", "None")


def is_second_stage(overrides: Sequence[str]) -> bool:
    """Whether a command line describes a second stage."""
    return any(o.startswith(("stage=", "init_run=")) for o in overrides if not o.endswith("=null"))


def compose_stage(config_name: str, overrides: Sequence[str], *, trust: bool = False) -> DictConfig:
    """The config of a second stage for a command line without several values; its node ``hydra`` is Hydra's.

    Raises:
        CarltError: lists every mistake.
    """
    groups, _ = _split(overrides)
    config = compose_checked(config_name, groups)
    with open_dict(config):
        config.choices = named_choices(config, config.hydra)
    return stage_config(config, overrides, trust=trust)


def sweep_overrides(config_name: str, overrides: Sequence[str], *, trust: bool = False) -> list[str]:
    """The overrides of a sweep over second stages in the form in which Hydra composes its jobs. Groups are composed by
    Hydra; values belong to the first run's config, so Hydra takes them unchecked (``++``) and :func:`stage_config` puts
    them in their place.

    Raises:
        CarltError: lists every mistake, with the first value of each key.
    """
    groups, values = _split(overrides)
    parsed = parse_all(groups, [])
    composed = compose_config(config_name, [first(o) for o in parsed if not o.key_or_group.startswith("hydra")])
    OmegaConf.set_struct(composed, False)
    init_run = next(o for o in parsed if o.key_or_group == "init_run")
    for folder in choices(init_run):
        composed.init_run, composed.choices = str(folder), {}
        stage_config(composed, [first(o) for o in parsed + parse_all(values, [])], trust=trust)
    unchecked = ["++" + text.lstrip("+") for text in values]
    # The default name of a job's folder would name the data and model of another run.
    named = any(o.key_or_group == "hydra.sweep.subdir" for o in parsed)
    subdir = [] if named else ["hydra.sweep.subdir='${hydra:job.num}_${hydra:runtime.choices.stage}'"]
    return [*groups, *unchecked, *subdir]


def stage_config(config: DictConfig, overrides: Sequence[str], *, trust: bool = False) -> DictConfig:
    """The config of a second stage: ``config`` as Hydra composed it, on the run folder in ``config.init_run``.

    The first run's values hold, also its regularizer's, except for loss, sampler, optimizer, epochs and what mixes
    images; ``overrides``, all of the command line's, have precedence over both.

    Raises:
        CarltError: no run folder, or that of a second stage; an override that does not fit.
    """
    folder = Path(config.init_run).absolute()
    stored = _first_run(folder, trust)
    parsed = [override for each in overrides if (override := parse(each, []))]
    options_given = {o.key_or_group for o in parsed if is_group(o.key_or_group)}
    chosen = {*CHOSEN_BY_STAGE, *OF_THIS_RUN, *options_given}
    result = config.copy()
    OmegaConf.set_readonly(result, False)
    OmegaConf.set_struct(result, False)
    special = _of_data_set(result.pop(BY_DATA, {}), stored)
    result.merge_with({group: values for group, values in special.items() if group not in options_given - {"stage"}})
    batch_size = None if OmegaConf.is_interpolation(result.data, "batch_size") else result.data.batch_size
    for name in stored:
        if name not in chosen and name not in ("aug", "trainer"):
            result[name] = stored[name]
    if batch_size is not None:
        result.data.batch_size = batch_size
    for name in ("view", "eval_view"):
        result.aug[name] = stored.aug[name]
    if "aug" not in chosen:
        result.aug.transforms = stored.aug.get("transforms") or {}
    if "trainer" not in chosen:
        result.trainer = OmegaConf.merge(stored.trainer, {"max_epochs": result.trainer.max_epochs})
        if batch_size is not None:  # of each step
            result.trainer.pop("accumulate_grad_batches", None)
    result = without_initial_weights(result)
    names: dict[str, Any] = dict(stored.get("choices") or {})
    kept = {group: name for group, name in names.items() if group not in chosen and group not in ("preset", "init")}
    own = {group: name for group, name in config.choices.items() if group in chosen}
    result.choices = {**kept, **own, "init": _label(stored, names)}
    result.init_run = str(folder)
    result.init = {
        "weights": paths.file_digest(paths.checkpoint(folder, "last")),
        "epochs": stored.trainer.max_epochs,
        **{name: stored[name] for name in RECORDED if name in stored},
    }
    apply_values(result, [text_of(o).lstrip("+") for o in parsed if _is_value(o.key_or_group)])
    return result


def default_name(init_run: str, stage: str) -> str:
    """The name of a second stage's run folder: that of its first run, and the stage."""
    return f"{Path(init_run).absolute().name}_{stage}"


def _split(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of groups (and of Hydra), and those of values, of a command line that describes a second stage."""
    problems: list[str] = []
    parsed = parse_all(overrides, problems)
    values = [o for o in parsed if _is_value(o.key_or_group)]
    others = [o for o in parsed if o not in values]
    keys = {o.key_or_group for o in others}
    problems += [
        f"{text_of(o)}: a second stage has the {o.key_or_group} of its first run; leave it out, only "
        "values change, e.g. data.root=<folder>"
        for o in others
        if o.key_or_group in FIXED
    ]
    if "stage" not in keys or any(o.key_or_group == "stage" and o.value() is None for o in others):
        problems.append(f"init_run= is for a stage: add stage=..., one of {', '.join(options('stage'))}")
    if "init_run" not in keys:
        problems.append("a stage trains the classifier of a run once more: give init_run=<run folder>")
    if problems:
        raise joined_error(problems)
    return [text_of(o) for o in others], [text_of(o) for o in values]


def _is_value(key: str) -> bool:
    return not (is_group(key) or key == "init_run" or key.startswith("hydra"))


def _first_run(folder: Path, trust: bool) -> DictConfig:
    stored = load_config(folder, trust=trust, word="init_run")
    if not paths.checkpoint(folder, "last").is_file():
        raise CarltError(
            f"init_run={folder} is no run folder: it has no {paths.CHECKPOINTS}/last.ckpt; give the folder of a run"
        )
    if not (folder / paths.RESULT).is_file():
        raise CarltError(
            f"init_run={folder} has not finished: {command_line('carlt.train', f'resume={folder}')} finishes it; a "
            "second stage begins with a finished run"
        )
    if stored.get("stage"):
        raise CarltError(
            f"init_run={folder} is a second stage; give its first stage instead: init_run={stored.init_run}"
        )
    return stored


def _of_data_set(values: Mapping[str, Any], stored: DictConfig) -> Any:
    """What a stage chooses for the data set of the first run; old runs have no name of it."""
    name, factor = (stored.get("choices") or {}).get("data"), stored.data.get("imbalance_factor")
    known = (f"{name}_{factor:g}",) if isinstance(factor, int | float) else ()
    return next((values[key] for key in (*known, name) if key in values), {})


def _label(stored: DictConfig, names: dict[str, Any]) -> str:
    """The first run in a word, for tables: ce, focal+car. Old runs have no names of options, but classes."""
    targets = [str(stored[name].get("_target_")).rpartition(".")[2] for name in ("loss", "reg") if name in stored]
    found = [str(names[name]) for name in RECORDED[:-1] if name in names] if names else targets
    return "+".join(name for name in found if name not in PLAIN)
