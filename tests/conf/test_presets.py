"""The index of the presets tells what they are: it is written from them, and its numbers have a source."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from carlt.config.compose import conf_dir, options
from carlt.config.overrides import compose_checked, list_presets

EXPERIMENTS = conf_dir().parent / "experiments"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """experiments/preset_index.py."""
    spec = importlib.util.spec_from_file_location("preset_index", EXPERIMENTS / "preset_index.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    text = list_presets()
    assert all(name in text for name in options("preset"))
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("name", options("preset"))
def test_every_preset_takes_a_public_set_as_it_is_published(name: str) -> None:
    data = compose_checked("train", [f"preset={name}"]).data
    # The set's own download or list, whole: only a set that nobody else has needs these two.
    assert not {"num_classes", "official"} & data.keys()
    assert data["_target_"] != "carlt.data.ImageFolder"
