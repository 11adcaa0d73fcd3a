"""Writes the table of methods in docs/methods.md. Each "yes" is a training step that ran, each "no" an error message.

``make methods`` runs it; a test fails if the table is out of date.
"""

import functools
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from carlt.config.compose import compose_config, option_file, options
from carlt.config.instantiate import part_class
from carlt.config.schema import validate
from carlt.errors import CarltError
from carlt.evaluation import posthoc
from carlt.testing.options import training_step
from carlt.training import build

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
BEGIN, END = "<!-- methods: written by `make methods` -->", "<!-- end of methods -->"
MIXING = ("mixup", "cutmix", "cmo")
# One row for each option that has a paper: `paper` of its class, or `# paper:` in its YAML.
GROUPS = ("loss", "reg", "aug", "sampler", "stage")


@functools.cache
def composed(override: str) -> Any:
    return compose_config("train", [override, "data.batch_size=16"])


def combined(
    loss: str = "ce", aug: str = "standard", reg: str = "none", sampler: str = "instance", stage: str | None = None
) -> DictConfig:
    """The config of these choices; a stage sets the loss. Each choice is composed once, to save time."""
    config, chosen = composed(f"aug={aug}").copy(), composed(f"stage={stage}" if stage else f"loss={loss}")
    config.loss, config.model = chosen.loss, chosen.model
    config.aug.second, config.aug.contrast = chosen.aug.second, chosen.aug.contrast
    config.reg, config.sampler = composed(f"reg={reg}").reg, composed(f"sampler={sampler}").sampler
    if stage:
        config.sampler = chosen.sampler
        OmegaConf.update(config, "stage", chosen.stage, force_add=True)
    if config.aug.paste:
        OmegaConf.update(config, "aug.paste.probability", 1 - 1e-9, force_add=True)  # 1 leaves no class means
        OmegaConf.update(config, "aug.paste.first", 0, force_add=True)
    return config


@functools.cache
def refusal(**choices: str) -> str | None:
    """None if a training step of the choices works as it should, otherwise the error message."""
    config = combined(**choices)
    validate(config)
    try:
        module = training_step(config)
    except CarltError as error:
        return str(error)
    assert choices.get("reg") != "car" or module.reg.updates.all()
    return None


@functools.cache
def posthoc_refusal(name: str, **choices: str) -> str | None:
    """None if the method works on a network of these choices, otherwise the error message."""
    config = combined(**choices)
    data = build.build_data(config)
    module = build.build_module(config, data)
    try:
        method = posthoc.METHODS[name](module)
    except CarltError as error:
        return str(error)
    images = module.normalise(next(iter(data.train_dataloader())).images)
    module.eval()
    logits = method.logits(method.outputs(images), 1.0)
    assert logits.shape == (len(images), data.num_classes)
    assert logits.isfinite().all()
    return None


def paper(group: str, option: str) -> str | None:
    """The method of an option and where it is from, "name (authors, venue year)"."""
    if found := re.search(r"^# paper: (.+)$", option_file(group, option).read_text(), re.MULTILINE):
        return found[1]
    config = composed(f"{group}={option}")
    return getattr(part_class(config, group), "paper", None) if "_target_" in (config.get(group) or {}) else None


def row(group: str, option: str, said: str, notes: list[str]) -> str:
    """One line of the table. Its last two columns are measured; refusals are added to ``notes``."""

    def answer(*refusals: str | None) -> str:
        notes.extend(f"No: {refusal}." for refusal in refusals if refusal)
        return "no" if any(refusals) else "yes"

    name, _, source = said.removesuffix(")").rpartition(" (")
    command, mixed, car = f"{group}={option}", "", ""
    if group == "aug":
        aug = combined(aug=option).aug
        loss = "bcl" if aug.relabel else "ce"
        command += " loss=bcl" * bool(aug.relabel)
        mixed = "gives them" if aug.mix or aug.paste else ""
        car = answer(refusal(loss=loss, aug=option, reg="car"))
    elif group == "reg":
        mixed = answer(*(refusal(aug=aug, reg=option) for aug in MIXING))
    else:
        command += " init_run=<run folder>" * (group == "stage")
        mixed = answer(*(refusal(**{group: option}, aug=aug) for aug in MIXING))
        car = answer(refusal(**{group: option}, reg="car"))
    return f"| {name or said} | {source if name else ''} | `{command}` | {mixed} | {car} |"


def posthoc_row(name: str, notes: list[str]) -> str:
    """One line for a post-hoc method of ``evaluate``."""
    method, _, source = posthoc.PAPERS[name].removesuffix(")").rpartition(" (")
    refused = [posthoc_refusal(name, aug=aug) for aug in MIXING], [posthoc_refusal(name, reg="car")]
    notes.extend(f"No: {refusal}." for refusals in refused for refusal in refusals if refusal)
    mixed, car = ("no" if any(refusals) else "yes" for refusals in refused)
    return f"| {method} | {source} | `carlt.evaluate run=<run folder> posthoc={name}` | {mixed} | {car} |"


def table() -> str:
    """The table of all methods in Markdown, with the reasons for each "no" below it."""
    notes: list[str] = []
    lines = ["| method | from | command | mixed labels | with CAR |", "|---|---|---|---|---|"]
    for group in GROUPS:
        for option in options(group):
            said = paper(group, option)
            if said and said != "No regularizer":
                lines.append(row(group, option, said, notes))
    lines += [posthoc_row(name, notes) for name in posthoc.METHODS]
    return "\n".join([*lines, "", *dict.fromkeys(notes)]).strip()


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}")
