"""The config of a run folder may come from a stranger: nothing that it names is imported or evaluated unchecked."""

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from carlt.config.compose import conf_dir
from carlt.config.second_stage import compose_stage
from carlt.config.stored import OF_ALL_EPOCHS, TARGETS, _misplaced, _stored_targets, load_config, resumed_config
from carlt.errors import CarltError
from carlt.evaluation.evaluate import evaluate, evaluate_posthoc
from carlt.evaluation.load import load_run

SOUND = Path(__file__).parents[1] / "fixtures" / "run_0_1"
POISON = {"_target_": "os.system", "command": "touch {trace}"}
PLACES = [
    ("loss",), ("reg",), ("model",), ("sampler",), ("optim",), ("data",), ("trainer",), ("stage",),
    ("aug", "view"), ("aug", "mix"), ("aug", "contrast"), ("aug", "eval_view"), ("aug", "transforms", "x"),
    ("callbacks", "x"), ("logger", "x"), ("reg", "car"), ("model", "weights"), ("loss", "inner"), ("data", "view"),
    ("aug", "paste"), ("trainer", "strategy"), ("recipe",), ("other",),
]  # fmt: skip
ENTRIES = {
    "evaluate": lambda folder: evaluate(folder),
    "posthoc": lambda folder: evaluate_posthoc(folder, "logit_adjusted", 1.0),
    "load_run": lambda folder: load_run(folder),
    "resume": lambda folder: resumed_config(folder, ["trainer.max_epochs=9"]),
    "init_run": lambda folder: compose_stage("train", ["stage=crt", f"init_run={folder}"]),
}


def folder_with(tmp_path: Path, config: Any) -> Path:
    """A copy of a sound run folder with another config: a mapping, text or bytes."""
    folder = tmp_path / "run"
    shutil.copytree(SOUND, folder)
    content = yaml.safe_dump(config) if isinstance(config, dict) else config
    (folder / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def sound() -> dict[str, Any]:
    return yaml.safe_load((SOUND / "config.yaml").read_text())


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_foreign_class_is_refused_at_every_entry(entry: str, tmp_path: Path) -> None:
    for target in ("os.system", "subprocess.Popen", "builtins.exec", "carlt.runs.paths.Path"):
        config = sound()
        config["aug"]["transforms"] = {"x": {"_target_": target}}
        folder = folder_with(tmp_path / target, config)
        with pytest.raises(CarltError, match=r"aug\.transforms\.x names .*not a part of carlt.*trust=true"):
            ENTRIES[entry](folder)


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_a_foreign_class_is_refused_at_every_place(place: tuple[str, ...], tmp_path: Path) -> None:
    trace, config = tmp_path / "executed", sound()
    node = config
    for key in place[:-1]:
        node[key] = dict(node.get(key) or {})
        node = node[key]
    node[place[-1]] = {key: value.format(trace=trace) for key, value in POISON.items()}
    folder = folder_with(tmp_path, config)
    for entry in ENTRIES.values():
        with pytest.raises(CarltError, match="not a part of carlt"):
            entry(folder)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("loss", "carlt.training.callbacks.Checkpoints"),  # a class of carlt's, in the wrong place
        ("aug.view", "torchvision.transforms.v2.Lambda"),
        ("aug.view", "torchvision.transforms.v2.functional"),
        ("trainer", "lightning.LightningModule"),
        ("data", "carlt.data.io.download.obtain"),
        ("loss", "carlt.losses.base.torch.load"),
        ("loss", "elsewhere.CrossEntropy"),
        ("loss", 3),
    ],
)
def test_an_allowed_package_is_not_enough(place: str, target: Any, tmp_path: Path) -> None:
    config = sound()
    node = config
    *path, last = place.split(".")
    for key in path:
        node = node[key]
    node[last] = {"_target_": target}
    with pytest.raises(CarltError, match="not a part of carlt"):
        load_config(folder_with(tmp_path, config))


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("data", "carlt.data.LongTailDataModule"),
        ("data.eval_view", "carlt.data.DigitsLT"),
        ("loss.inner", "carlt.losses.CrossEntropy"),
        ("callbacks.x", "carlt.training.callbacks.read_rows"),
        ("callbacks.x", "carlt.training.callbacks.AtomicCheckpointIO"),
        ("aug.view", "carlt.aug.Paste"),
        ("aug.eval_view", "carlt.aug.Paste"),
        ("aug.eval_view", "carlt.aug.SimCLR"),
        ("aug.eval_view", "carlt.aug.CropFlip"),
        ("aug.eval_view", "torchvision.transforms.v2.RandomErasing"),
        ("aug.eval_view", "torchvision.transforms.v2.Identity"),
        ("aug.eval_view", "torchvision.transforms.v2.Transform"),
        ("aug.transforms.x", "torchvision.transforms.v2.Transform"),
        ("aug.transforms.x", "carlt.aug.Resize"),
        ("aug.contrast", "carlt.aug.Cutout"),
        ("aug.mix", "torchvision.transforms.v2.RandomErasing"),
        ("aug.second", "carlt.aug.Cutout"),
    ],
)
def test_a_class_of_another_kind_is_refused(place: str, target: str, tmp_path: Path) -> None:
    config = sound()
    node = config
    *path, last = place.split(".")
    for key in path:
        node = node.setdefault(key, {})
    node[last] = {**(node.get(last) or {}), "_target_": target}
    folder = folder_with(tmp_path, config)
    for entry in ENTRIES.values():
        with pytest.raises(CarltError, match=rf"config\.yaml is damaged, or of another program: {place} .*{target}"):
            entry(folder)


def test_trust_allows_a_view_that_draws(tmp_path: Path) -> None:
    config = sound()
    config["aug"]["eval_view"] = {"_target_": "carlt.aug.CropFlip"}
    assert load_config(folder_with(tmp_path, config), trust=True).aug.eval_view._target_ == "carlt.aug.CropFlip"


def test_every_option_of_carlt_fits_its_place() -> None:
    seen = set()
    for path in conf_dir().rglob("*.yaml"):
        text = path.read_text()
        node = yaml.safe_load(text) or {}
        group = path.relative_to(conf_dir()).parts[0].replace("recipe", "aug")  # its views become those of aug
        plain = node if "@package _global_" in text else {group: node}
        plain = {key: value for key, value in plain.items() if key in TARGETS}
        assert list(_misplaced(plain)) == [], path
        seen |= {place for place, *_ in _stored_targets(plain, "")}
    assert {"data", "aug.eval_view", "aug.mix", "aug.second", "callbacks.checkpoints"} <= seen


def test_objects_of_the_trainer_are_refused(tmp_path: Path) -> None:
    config = sound()
    config["trainer"]["default_root_dir"] = "/"
    with pytest.raises(CarltError, match=r"trainer\.default_root_dir is not a value that a run folder may set"):
        load_config(folder_with(tmp_path, config))


def test_a_run_on_repacked_images_can_be_resumed(tmp_path: Path) -> None:
    config = sound()
    config["data"] = {"_target_": "carlt.data.CIFAR100LT", "image_size": 32}
    assert resumed_config(folder_with(tmp_path, config), ["data.official=false"]).data.official is False


def test_trust_allows_a_class_of_ones_own(tmp_path: Path) -> None:
    config = sound()
    config["loss"] = {"_target_": "torch.nn.CrossEntropyLoss"}
    folder = folder_with(tmp_path, config)
    with pytest.raises(CarltError, match="trust=true"):
        load_config(folder)
    assert load_config(folder, trust=True).loss._target_ == "torch.nn.CrossEntropyLoss"


@pytest.mark.parametrize("name", [".lock", "config.yaml.part", "checkpoints/last.ckpt.part", "posthoc", "wandb"])
def test_a_link_out_of_the_folder_is_refused_at_every_entry(name: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, sound())
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(tmp_path / "elsewhere")
    for entry in ENTRIES.values():
        with pytest.raises(CarltError, match=rf"{name} is a link to {tmp_path}/elsewhere.*trust=true"):
            entry(folder)
    load_config(folder, trust=True)


@pytest.mark.parametrize("place", ["elsewhere", "run/wandb/p"])
@pytest.mark.parametrize("name", ["posthoc", "posthoc/car", "deep/wandb/x"])
def test_nothing_leads_out_by_way_of_wandb_s_folder(name: str, place: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", sound())
    (folder / "wandb" / "p").mkdir(parents=True)
    (folder / "wandb" / "p" / "car").symlink_to(tmp_path / "elsewhere")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(tmp_path / place)
    with pytest.raises(CarltError, match=rf"{name} is a link to {tmp_path}/{place}, outside"):
        load_config(folder)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_named(seed: int, tmp_path: Path) -> None:
    with pytest.raises(CarltError, match=f"seed={seed}"):
        load_config(folder_with(tmp_path, sound() | {"seed": seed}))


def test_folders_too_deep_to_look_through_are_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, sound())
    folder.joinpath(*["d"] * 150).mkdir(parents=True)
    with pytest.raises(CarltError, match="has folders more than 100 deep"):
        load_config(folder)


def test_links_within_the_folder_and_those_of_wandb_are_taken(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, sound())
    (folder / "wandb").mkdir()
    (folder / "wandb" / "debug-core.log").symlink_to(tmp_path / "elsewhere")
    (folder / "copy.csv").symlink_to("metrics.csv")
    (folder / "loop").symlink_to("loop")
    moved = tmp_path / "link"
    moved.symlink_to(folder)
    for place in (folder, moved):
        load_config(place)


def test_every_package_of_the_list_names_its_public_classes() -> None:
    for packages in TARGETS.values():
        for package in packages:
            if package.startswith("carlt."):
                module = importlib.import_module(package)
                assert module.__all__
                assert all(getattr(module, name).__module__.startswith(("carlt.", "abc")) for name in module.__all__)


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("}{ garbage", "damaged"),
        ("", "no mapping"),
        ("- a\n- b\n", "no mapping"),
        ("3\n", "no mapping"),
        ("null\n", "no mapping"),
        (b"seed: 0\0\n", "not UTF-8"),
        ("seed: 0\n".encode("utf-16"), "not UTF-8"),
        (b"\xff\xfe\xfa", "not UTF-8"),
        ("seed: 0\nseed: 1\n", "twice"),
        ("a: {b: 1, b: 2}\n", "twice"),
        ("a: !!python/object/apply:os.system [ls]\n", "damaged"),
        ("a: !!python/name:os.system\n", "damaged"),
        ("a: !unknown 3\n", "damaged"),
        ("a: ${b}\nb: ${a}\n", "interpolations"),
        ("a: ${oc.env:HOME}\n", "interpolations"),
        ('a: "\\x24{oc.env:HOME}"\n', "interpolations"),
        ('a: [{b: "\\u0024{oc.env:HOME}"}]\n', "interpolations"),
        ('"\\x24{a}": 1\n', "interpolations"),
        ("a: ???\n", "missing"),
        ("a: 2020-01-01\n", "date"),
        ("a: !!set {b}\n", "set"),
        ("a: !!binary aGVsbG8=\n", "bytes"),
        ("a: " + "1:" * 5000 + "1\n", "4,096 letters"),
        ("".join(f"k{i}: 0\n" for i in range(20_000)) + "k0: 0\n", "twice"),
        (BOMB, "aliases"),
        ("a: " + "[" * 3000 + "]" * 3000, "deep|depth"),
        ("a: " + "x" * (1 << 21), "1 MiB"),
        ("seed: 0\n", "lacks data, model"),
        ("1: 2\n", "no text"),
    ],
)
def test_a_broken_config_is_one_line(content: Any, reason: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, content)
    for name, entry in ENTRIES.items():
        with pytest.raises(CarltError, match=reason) as error:
            entry(folder)
        assert len(str(error.value).splitlines()) == 1, name


NUMBERS = ("seed", "data.image_size", "data.batch_size", "trainer.max_epochs", "reg.car.weight")
RIGHT = {*((int, place) for place in NUMBERS), (str, "init_run"), (list, "resumed")}


@pytest.mark.parametrize("wrong", [None, 3, "x", True, [], [1, {"a": {}}], {"a": 1}])
def test_another_value_in_the_place_of_a_part_is_one_line(wrong: Any, tmp_path: Path) -> None:
    places = ("data", "model", "aug", "loss", "reg", "optim", "sampler", "trainer", "aug.view", "aug.eval_view")
    places += ("seed", "data.image_size", "data.batch_size", "trainer.max_epochs", "reg.car.weight", "loss._target_")
    for place in (*places, "callbacks.checkpoints", "logger", "choices", "aug.mix", "init_run", "resumed", "stage"):
        config = sound()
        *path, last = place.split(".")
        node = config
        for key in path:
            node = node.setdefault(key, {})
        node[last] = wrong
        if (wrong is None and place not in places) or (type(wrong), place) in RIGHT:
            continue
        folder = folder_with(tmp_path / place, config)
        with pytest.raises(CarltError) as error:
            load_config(folder)
        assert len(str(error.value).splitlines()) == 1, place


@pytest.mark.parametrize("key", ["data", "model", "aug", "loss", "reg", "optim", "trainer", "seed"])
def test_a_missing_key_is_one_line(key: str, tmp_path: Path) -> None:
    config = sound()
    del config[key]
    folder = folder_with(tmp_path, config)
    for entry in ENTRIES.values():
        with pytest.raises(CarltError, match=f"(lacks .*|: ){key}"):
            entry(folder)


@pytest.mark.parametrize(
    "change",
    ["optim.lr=0.5", "seed=3", "data.batch_size=32", "data.validation=test", "loss.drw_start=0.1", "reg.car.weight=2"],
)
def test_resume_refuses_what_the_first_epochs_were_trained_with(change: str, tmp_path: Path) -> None:
    with pytest.raises(CarltError, match="a resumed run keeps it"):
        resumed_config(folder_with(tmp_path, sound()), [change])


def test_resume_records_a_change() -> None:
    config = resumed_config(SOUND, ["trainer.max_epochs=9", "data.num_workers=0"])
    (change,) = config.resumed
    assert change["values"] == {"trainer.max_epochs": 9, "data.num_workers": 0}


def test_resume_records_the_number_of_devices() -> None:
    (change,) = resumed_config(SOUND, ["trainer.devices=2"]).resumed
    assert change["values"] == {"trainer.devices": 2}
    for word in ("auto", "-1"):
        with pytest.raises(CarltError, match=r"trainer\.devices=.*needs their number; give trainer\.devices=<number>"):
            resumed_config(SOUND, [f"trainer.devices={word}"])


def test_what_followed_the_length_of_the_training_follows_it_still(tmp_path: Path) -> None:
    config = sound()
    config["trainer"]["max_epochs"] = 20
    config["sampler"] = {"_target_": "carlt.samplers.Deferred", "epochs": 20}
    config["aug"]["paste"] = {"_target_": "carlt.aug.Paste", "last": 3, "epochs": 15}
    longer = resumed_config(folder_with(tmp_path, config), ["trainer.max_epochs=40"])
    assert (longer.sampler.epochs, longer.aug.paste.epochs) == (40, 15)  # the second was chosen otherwise
    assert longer.resumed[0]["values"] == {"trainer.max_epochs": 40}


def test_every_option_that_refers_to_the_length_follows_it() -> None:
    options = {path: yaml.safe_load(path.read_text()) for path in conf_dir().glob("*/*.yaml")}
    nodes = [{path.parent.name: content} for path, content in options.items()]
    assert {place for node in nodes for place in _places(node, "${trainer.max_epochs}")} == set(OF_ALL_EPOCHS)


def _places(node: Any, value: str, place: str = "") -> Iterator[str]:
    for key, item in node.items() if isinstance(node, dict) else ():
        yield from [f"{place}{key}"] if item == value else _places(item, value, f"{place}{key}.")
