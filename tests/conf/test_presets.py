"""The index of the presets tells what they are: it is written from them, and its numbers have a source."""

import csv
import fnmatch
import functools
import itertools
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from carlt.config.compose import compose_config, conf_dir, options
from carlt.config.instantiate import build
from carlt.config.overrides import compose_checked, list_options
from carlt.config.schema import validate
from carlt.models.classifier import feature_dim
from carlt.models.weights import normalisation

EXPERIMENTS = conf_dir().parent / "experiments"


# Recipes as their sources have them; a new preset or stage needs its line, unless a pattern there covers it.
with open(Path(__file__).parents[1] / "facts" / "recipes.csv", newline="") as file:
    FACTS = list(csv.DictReader(file))


PRETRAINED = {
    "vit_small_patch16_224": ((0.5,) * 3, (0.5,) * 3),
    "resnet50": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "vit_base_patch16_clip_quickgelu_224.openai": (
        (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    ),
}  # fmt: skip
"""The networks that presets fine-tune, with the mean and deviation that their weights were trained with."""


@pytest.fixture(scope="module")
def script(load_script) -> ModuleType:
    """experiments/preset_index.py, which takes the presets that the tests have composed."""
    loaded = load_script(EXPERIMENTS / "preset_index.py")
    loaded.compose_config = lambda _, overrides: composed(overrides[0].removeprefix("preset="))
    return loaded


@pytest.fixture(scope="module")
def found(script: ModuleType) -> list:
    return [script.read(name) for name in options("preset")]


def test_the_index_is_up_to_date(script: ModuleType, found: list) -> None:
    assert script.INDEX.read_text() == script.index(found), "run python experiments/preset_index.py"


def test_every_preset_is_a_row_of_a_table(script: ModuleType, found: list) -> None:
    assert all(preset.tables for preset in found)
    assert {table for preset in found for table in preset.tables} == script.TABLES.keys()


def test_every_table_of_the_paper_has_presets_and_what_is_missing_is_named(script: ModuleType, found: list) -> None:
    titles = [title for key, title in script.TABLES.items() if any(key in preset.tables for preset in found)]
    for part in (*(f"Table {k}" for k in range(1, 9)), "Figure 3"):
        assert any(title.startswith(part) for title in titles), part
    missing = script.INDEX.read_text().split("## Missing")[1]
    assert all(name in missing for name in ("SAFA", "SMC", "MetaSAug", "Figure 2"))


def test_second_commands_name_stages(found: list) -> None:
    commands = [preset.facts["then"] for preset in found if "then" in preset.facts]
    assert commands
    for command in commands:
        stages = next(word for word in command.split() if word.startswith("stage=")).removeprefix("stage=").split(",")
        assert set(stages) <= set(options("stage"))
        assert (len(stages) > 1) == command.startswith("-m ")


def test_every_sweep_is_a_command(found: list) -> None:
    sweeps = [preset.overrides for preset in found if "sweep" in preset.facts]
    assert len(sweeps) >= 4
    for flag, *overrides in sweeps:
        assert flag == "-m"
        compose_checked("train", overrides)


def test_what_is_measured_stands_where_it_is_said_to(found: list) -> None:
    measured = [preset.facts["measured"].rpartition(", ") for preset in found if "measured" in preset.facts]
    assert measured
    for result, _, file in measured:
        number = " ".join(result.split()[:3])
        assert number in (EXPERIMENTS / file).read_text(), result


def test_a_header_that_tells_wrong_things_is_named(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "option_file", lambda group, name: tmp_path / f"{name}.yaml")
    head = "# @package _global_\n# A title.\n"
    for facts, message in (
        ("# tabels: main\n", "unknown facts: tabels"),
        ("# tables: mian\n", "no such tables: mian"),
        ("", "no such tables: none"),
    ):
        (tmp_path / "x.yaml").write_text(head + facts)
        with pytest.raises(ValueError, match=message):
            script.read("x")


def test_a_published_number_must_be_on_record(script: ModuleType) -> None:
    (row,) = script._published("main/cifar100_lt_ce", "CE, ViT-Small from scratch")
    assert row["value"] == "41.40"
    for name, what in (("main/cifar100_lt_ce", "CE, ViT-Small"), ("imbalance/cifar100_lt_50_ce", "CE, ResNet-32")):
        with pytest.raises(ValueError, match=r"published.csv has no"):
            script._published(name, what)


def test_help_names_every_preset() -> None:
    text = list_options()
    assert max(map(len, text.splitlines())) <= 110
    paragraphs = text.partition("README.md)\n\n")[2].replace("\n  ", " ").splitlines()
    assert sorted(name for paragraph in paragraphs for name in names_of(paragraph)) == sorted(options("preset"))


def names_of(paragraph: str) -> list[str]:
    """The names that a paragraph of the help stands for; braces hold the choices."""
    if "{" not in paragraph:
        return paragraph.split(", ")
    choices = [part.split(", ") for part in re.split(r"[{}]", paragraph)]
    return ["".join(parts) for parts in itertools.product(*choices)]


def recipe(config: Any) -> dict[str, Any]:
    """What a run of ``config`` would do, read off the optimizer as it is built and stepped through its epochs."""
    optim, epochs = build(config, "optim"), config.trainer.max_epochs
    configured = optim.configure(torch.nn.Linear(1, 1), epochs, 1)
    optimizer, schedule, rates = configured["optimizer"], configured["lr_scheduler"]["scheduler"], []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"] / optim.lr)
        optimizer.step()
        schedule.step()
    falls = [(epoch, rate) for epoch, rate in enumerate(rates) if epoch and rate < 0.5 * rates[epoch - 1]]
    steps = " ".join(f"{epoch}:{rate:.4g}" for epoch, rate in falls)
    warmup = optim.warmup_epochs
    cosine = [(1 + math.cos(math.pi * k / (epochs - warmup))) / 2 for k in range(epochs - warmup)]
    is_cosine = rates[warmup:] == pytest.approx(cosine, abs=0.03)  # CAR's fine-tuning ends at 0.02 of its rate
    return {
        "optimizer": type(optim).__name__,
        "lr": optim.lr,
        "decay": "cosine" if is_cosine else steps,
        "weight_decay": max(group["weight_decay"] for group in optimizer.param_groups),
        "epochs": epochs,
        "batch": (config.data.batch_size, config.trainer.get("accumulate_grad_batches", 1)),
        "nesterov": optimizer.param_groups[0].get("nesterov", False),
        "warmup": rates.index(1.0) + 1 if warmup else 0,
    }


def expected(fact: dict[str, str]) -> dict[str, Any]:
    """A line of recipes.csv in the form of ``recipe``."""
    batch, _, times = fact["batch"].partition(" x ")
    numbers = {name: float(fact[name]) for name in ("lr", "weight_decay", "epochs", "warmup")}
    return {
        "optimizer": fact["optimizer"],
        "decay": fact["decay"],
        "nesterov": fact["nesterov"] == "yes",
        "batch": (int(batch), int(times or 1)),
        **numbers,
    }


def fact_of(preset: str) -> dict[str, str]:
    """Its line of recipes.csv."""
    (fact,) = (fact for fact in FACTS if fnmatch.fnmatchcase(preset, fact["what"]))
    return fact


FAST = {fact_of(preset)["what"]: preset for preset in reversed(options("preset"))}.values()
"""A preset of each recipe; the others of a recipe differ in their method."""


@pytest.mark.parametrize(
    "preset", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in options("preset")]
)
def test_every_preset_composes_and_builds(preset: str) -> None:
    config = composed(preset).copy()
    validate(config)
    # The set's own download or list, whole: only a set that nobody else has needs these two.
    assert not {"num_classes", "official"} & config.data.keys()
    assert config.data["_target_"] != "carlt.data.ImageFolder"
    fact = fact_of(preset)
    assert recipe(config) == expected(fact), fact["source"]
    known: dict[str, Any] = {"num_classes": 5, "class_counts": torch.tensor([40, 20, 9, 4, 1])}
    size = config.data.image_size
    if config.model.get("pretrained"):
        assert config.data.get("normalisation", "own") == ("imagenet" if preset.startswith("car_released") else "own")
        assert config.model.name in PRETRAINED
    if "pretrained" in config.model:
        config.model.pretrained = False  # what fine-tuning starts from is not for a test to fetch
    model = network(OmegaConf.to_yaml(config.model), size)
    loss = build(config, "loss", feature_dim=feature_dim(model), network=model, **known)
    assert isinstance(loss, torch.nn.Module)
    for place in ("reg", "optim", "sampler", "aug.view", "aug.contrast", "aug.mix", "aug.paste", "aug.relabel"):
        if OmegaConf.select(config, place):
            assert build(config, place, image_size=size, **known) is not None


@functools.cache
def composed(preset: str) -> Any:
    return compose_config("train", [f"preset={preset}"])


@functools.cache
def network(model: str, image_size: int) -> torch.nn.Module:
    """The network of a ``model`` node, without numbers; built once for all presets that have it."""
    config = OmegaConf.create({"model": OmegaConf.create(model)})
    with torch.device("meta"):
        return build(config, "model", in_channels=3, image_size=image_size, num_classes=5)


@pytest.mark.parametrize("stage", options("stage"))
def test_every_stage_has_its_recipe(stage: str) -> None:
    config = compose_config("train", ["data=cifar100_lt", "model=resnet32", f"stage={stage}"])
    (fact,) = (fact for fact in FACTS if fact["what"] == f"stage={stage}")
    batch = fact["batch"].replace("first", str(config.recipe.batch_size))
    assert recipe(config) == expected({**fact, "batch": batch}), fact["source"]


def test_every_fact_is_of_something_and_has_a_source() -> None:
    known = [*options("preset"), *(f"stage={stage}" for stage in options("stage"))]
    for fact in FACTS:
        assert fact["source"]
        assert any(fnmatch.fnmatchcase(name, fact["what"]) for name in known), fact["what"]


def test_the_name_of_a_preset_without_a_folder_is_of_one_preset_alone() -> None:
    names = options("preset")
    assert not {name for name in names if "/" not in name} & {name.rpartition("/")[2] for name in names if "/" in name}


@pytest.mark.parametrize(("name", "own"), PRETRAINED.items())
def test_what_presets_fine_tune_is_normalised_as_its_weights_expect(
    name: str, own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *args, pretrained, **options: create(*args, **options))
    node = OmegaConf.create({"_target_": "carlt.models.timm_model", "name": name, "pretrained": True})
    assert normalisation(network(OmegaConf.to_yaml(node), 224), 3) == own
