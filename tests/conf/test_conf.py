"""Every YAML of every group composes, fits its constructors and builds; new files are found by themselves."""

import re
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from carlt.config.compose import compose_config, conf_dir, options
from carlt.config.instantiate import build, plain_values
from carlt.config.overrides import compose_checked, sweep_overrides
from carlt.config.targets import locate, parameters_of
from carlt.errors import CarltError
from carlt.samplers import PowerLaw
from carlt.testing import check_model
from carlt.testing.losses import trains_a_network
from carlt.testing.options import composed
from carlt.testing.part import Part

GROUPS = sorted(folder.name for folder in conf_dir().iterdir() if folder.is_dir() and folder.name != "preset")
# Options that need another choice beside them.
NEEDS = {"model=timm": ["model.name=test_vit", "family=vit"]}
CHOICES = [(group, name) for group in GROUPS for name in options(group)]


def compose(*overrides: str) -> Any:
    return compose_config("train", [*overrides, *(more for o in overrides for more in NEEDS.get(o, []))])


def test_there_is_no_file_that_discovery_misses() -> None:
    found = {path.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*.yaml")}
    commands = {path.name for path in conf_dir().glob("*.yaml")}
    assert found == commands | {f"{group}/{name}.yaml" for group, name in CHOICES}


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=[f"{group}={name}" for group, name in CHOICES])
def test_every_option_composes_and_fits_its_constructors(group: str, name: str) -> None:
    composed(f"{group}={name}", *NEEDS.get(f"{group}={name}", []))


@pytest.mark.parametrize("data", options("data"))
@pytest.mark.parametrize("family", options("family"))
def test_every_data_set_has_a_recipe_for_a_family_or_names_what_lacks(data: str, family: str) -> None:
    """One of its own, or that of any pictures; a set of one's own may have one for a single family."""
    try:
        config, said = compose_checked("train", [f"data={data}", f"family={family}"]), ""
    except CarltError as error:
        config, said = None, str(error)
    if config is None:
        assert family != "cnn"
        assert re.match(rf"recipe=\w+_{family}: no such recipe; ", said)
    else:
        assert config.trainer.max_epochs == config.recipe.epochs
        assert config.optim.lr == config.recipe.lr


@pytest.mark.parametrize("data", ["cifar100_lt", "cifar10_lt", "imagenet_lt", "inaturalist2018", "places_lt"])
def test_published_sets_have_a_recipe_of_transformers(data: str) -> None:
    config = compose(f"data={data}", "model=vit_small")
    assert config.optim._target_ == "carlt.training.optim.AdamW"


@pytest.mark.parametrize("model", options("model"))
def test_every_model_trains(model: str) -> None:
    values = plain_values(compose(f"model={model}").model)
    kind = locate(values.pop("_target_"))
    with torch.device("meta"):
        network = Part(kind, values).build(num_classes=5, in_channels=3, image_size=32)
    large = sum(parameter.numel() for parameter in network.parameters()) > 5e6
    check_model(kind, device="meta" if large else "cpu", **values)


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group in ("loss", "reg") for name in options(group) if name != "several"],  # which has none
)
def test_every_loss_and_regularizer_trains_a_network(group: str, name: str) -> None:
    config = compose(f"{group}={name}")
    values = plain_values(config[group])
    part = Part(locate(values.pop("_target_")), values)
    assert part.kind.paper
    if getattr(part.kind, "has_gradient", True) and values.get("weight", 1):  # of zero weight, it acts by its offsets
        trains_a_network(part, build(config, "model", in_channels=1, image_size=8, num_classes=3))


def test_the_main_command_is_the_documented_recipe() -> None:
    config = compose("data=imagenet_lt", "model=resnet50", "reg=car")
    expected = {
        "trainer.max_epochs": 200,
        "data.batch_size": 128,
        "data.image_size": 224,
        "optim._target_": "carlt.training.optim.SGD",
        "optim.lr": 0.05,
        "optim.weight_decay": 5e-4,
        "optim.schedule": "cosine",
        "aug.view._target_": "carlt.aug.ResizedCropFlip",
        "loss._target_": "carlt.losses.CrossEntropy",
    }
    assert {key: OmegaConf.select(config, key) for key in expected} == expected
    defaults = {name: parameter.default for name, parameter in parameters_of("carlt.reg.CAR").items()}
    assert {name: defaults[name] for name in ("weight", "beta", "r0", "margin", "surrogate")} == {
        "weight": 0.5, "beta": 0.5, "r0": 0.2, "margin": 0.1, "surrogate": "paper",
    }  # fmt: skip
    assert dict(config.reg) == {"_target_": "carlt.reg.CAR"}


@pytest.mark.parametrize(("data", "epochs"), [("cifar100_lt", 200), ("imagenet_lt", 200), ("inaturalist2018", 300)])
def test_the_paper_trains_vit_small_with_adamw(data: str, epochs: int) -> None:
    config = compose(f"data={data}", "model=vit_small")
    assert (config.trainer.max_epochs, config.data.batch_size) == (epochs, 128)
    assert config.optim._target_ == "carlt.training.optim.AdamW"


def test_the_combination_of_the_paper_takes_concutmix_recipe() -> None:
    config = compose("preset=baseline/cifar100_lt_car_concutmix_resnet32")
    assert (config.optim.lr, config.optim.weight_decay, config.data.batch_size) == (0.15, 5e-4, 256)
    assert (config.loss._target_, config.loss.tau, config.reg._target_) == (
        "carlt.losses.BalancedContrastive",
        0.9,
        "carlt.reg.CAR",
    )
    assert list(config.aug.transforms) == ["autoaugment"]
    assert config.aug.relabel._target_ == "carlt.aug.SemanticLabels"


def test_cmo_pastes_from_all_classes_alike() -> None:
    """The released code weighs each image by 1 / n_c, which draws the classes alike."""
    paste = build(compose("aug=cmo"), "aug.paste")
    assert (paste.probability, paste.first, paste.until) == (0.5, 4, 57)
    counts = torch.tensor([90, 9, 1])
    targets = torch.arange(3).repeat_interleave(counts)
    image_weight = 1.0 / counts[targets]
    expected = torch.zeros(3).index_add(0, targets, image_weight / image_weight.sum())
    rule, generator = PowerLaw(paste.power), torch.Generator().manual_seed(0)
    drawn = torch.cat([targets[rule.order(targets, 0, generator)] for _ in range(200)]).bincount(minlength=3)
    torch.testing.assert_close(drawn / drawn.sum(), expected, atol=0.01, rtol=0)


def test_the_paper_fine_tunes_for_100_epochs() -> None:
    config = compose("data=imagenet_lt", "model=vit_small", "recipe=finetune_vit")
    assert (config.trainer.max_epochs, config.optim.lr) == (100, 5e-5)


RELEASED = {
    "reg": {"_target_": "carlt.reg.CAR", "surrogate": "released", "weight": 0.3, "beta": 0.9, "r0": 0.2, "margin": 0.0},
    "optim._target_": "carlt.training.optim.AdamW",
    "optim.lr": 5e-5,
    "optim.weight_decay": 0.05,
    "optim.decay_all": True,
    "optim.schedule": "cosine",
    "optim.warmup_epochs": 5,
    "optim.min_lr": 1e-6,
    "data._target_": "carlt.data.CIFAR100LT",
    "data.batch_size": 128,
    "data.image_size": 224,
    "data.normalisation": "imagenet",
    "data.imbalance_factor": 100,
    "aug.view": {"_target_": "carlt.aug.ResizedCropFlip", "scale": [0.8, 1.0]},
    "aug.eval_view": {"_target_": "carlt.aug.Resize", "ratio": 1.1},
    "model.name": "vit_small_patch16_224",
    "model.pretrained": None,
    "trainer.max_epochs": 200,
}
"""Of the authors' repository: train_CSR_tail_weights.py at commit c05a2a2, and its README's optimizer at 0524efc."""


@pytest.mark.parametrize(
    ("preset", "differs"),
    [
        ("car_released", {}),
        (
            "car_released_finetune",
            {
                "reg": RELEASED["reg"] | {"beta": 0.5, "r0": 0.5},
                "data.imbalance_factor": 10,
                "model.pretrained": True,
                "trainer.max_epochs": 50,
            },
        ),
    ],
)
def test_the_authors_code_has_presets_with_all_its_values(preset: str, differs: dict[str, Any]) -> None:
    config = compose(f"preset={preset}")
    assert {key: _plain(config, key) for key in RELEASED} == RELEASED | differs


def test_reg_car_released_is_the_whole_released_configuration() -> None:
    assert _plain(compose("reg=car_released"), "reg") == RELEASED["reg"]


def _plain(config: Any, key: str) -> Any:
    value = OmegaConf.select(config, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def test_the_pretrained_resnet_of_table_8_takes_car_s_recipe() -> None:
    config = compose("preset=resnet/tiny_imagenet_lt_car")
    assert (config.model.name, config.model.pretrained, config.data.image_size) == ("resnet50", True, 224)
    assert (config.optim._target_, config.optim.lr) == ("carlt.training.optim.AdamW", 5e-5)
    assert (config.trainer.max_epochs, config.reg._target_) == (100, "carlt.reg.CAR")


@pytest.mark.parametrize("data", ["imagenet_lt", "inaturalist2018", "places_lt"])
def test_listed_sets_take_an_imbalance_factor(data: str) -> None:
    config = compose_checked("train", [f"data={data}", "data.imbalance_factor=50", "data.profile=pareto"])
    assert (config.data.imbalance_factor, config.data.profile) == (50, "pareto")
    with pytest.raises(CarltError, match="imbalance_factor"):
        compose_checked("train", [f"data={data}", "data.imbalance_factor=0.5"])


def test_cifar_resnets_follow_ldam() -> None:
    config = compose("data=cifar100_lt", "model=resnet32")
    assert (config.optim.lr, config.optim.weight_decay, config.optim.schedule) == (0.1, 2e-4, "multistep")
    assert config.optim.gamma == 0.01
    parameters = parameters_of("carlt.training.optim.SGD")
    assert compose("data=digits_lt").optim.gamma == parameters["gamma"].default  # where a recipe names none


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "data=cifar100_lt model=resnet32 optim=adamw",
            r"^optim=adamw: the learning rate 0\.1 .* is for SGD; add optim",
        ),
        ("data=cifar100_lt model=vit_tiny optim=sgd", r"^optim=sgd: the learning rate 0\.0005 .* is for AdamW"),
        ("model=resnet50 recipe=finetune_vit optim=sgd", r"^optim=sgd: the learning rate 5e-05 .* is for AdamW"),
        ("preset=main/cifar100_lt_ce optim=sgd", r"^optim=sgd: the learning rate 0\.0005 .* is for AdamW"),
        ("optim=sgd,adamw", r"^optim=adamw: the learning rate 0\.1 .* is for SGD"),
        ("data=cifar100_lt model=vit_tiny,resnet32 optim=adamw", r"^optim=adamw: the learning rate 0\.1 .* is for SGD"),
        ("model=timm model.name=test_vit", r"^model=timm: add family=cnn .* or family=vit"),
        ("model=resnet32,timm model.name=test_vit", r"^model=timm: add family=cnn"),
    ],
)
def test_a_learning_rate_belongs_to_its_optimizer_and_a_recipe_to_its_family(words: str, message: str) -> None:
    with pytest.raises(CarltError, match=message):
        sweep_overrides("train", words.split())


@pytest.mark.parametrize(
    ("words", "optimizer", "rate"),
    [
        ("data=cifar100_lt model=resnet32 optim=adamw optim.lr=1e-3", "AdamW", 1e-3),
        ("data=cifar100_lt model=vit_tiny optim=adamw", "AdamW", 5e-4),
        ("data=tiny_imagenet_lt model=resnet50 recipe=finetune_vit", "AdamW", 5e-5),  # CAR's, for every backbone
        ("data=cifar100_lt model=timm model.name=test_vit family=vit", "AdamW", 5e-4),
    ],
)
def test_a_recipe_brings_its_optimizer(words: str, optimizer: str, rate: float) -> None:
    config = compose_checked("train", words.split())
    assert (config.optim._target_, config.optim.lr) == (f"carlt.training.optim.{optimizer}", rate)


def test_any_timm_transformer_takes_its_family_s_recipe() -> None:
    config = compose("data=imagenet_lt", "model=timm", "family=vit")
    assert config.optim._target_ == "carlt.training.optim.AdamW"


@pytest.mark.parametrize(
    ("words", "recipe", "rate"),
    [
        ("data=image_folder model=resnet50 model.pretrained=true", "finetune_cnn", 0.01),
        ("data=image_folder model=resnet50 model.weights=there.pt", "finetune_cnn", 0.01),
        ("data=cifar100_lt model=vit_small model.pretrained=true", "finetune_vit", 5e-5),
        ("data=image_folder model=resnet50", "image_folder_cnn", 0.05),
        ("data=image_folder model=resnet50 model.pretrained=false", "image_folder_cnn", 0.05),
        ("data=cifar100_lt model=resnet32 model.weights=there.pt", "cifar100_lt_cnn", 0.1),
        ("data=image_folder model=resnet50 model.pretrained=true recipe=image_folder_cnn", "image_folder_cnn", 0.05),
        ("data=image_folder model=resnet50 model.pretrained=true optim.lr=0.3", "finetune_cnn", 0.3),
    ],
)
def test_pretrained_weights_choose_the_fine_tuning_recipe(words: str, recipe: str, rate: float) -> None:
    config = compose_checked("train", words.split())
    assert (config.hydra.runtime.choices.recipe, config.optim.lr) == (recipe, rate)


@pytest.mark.parametrize(
    ("words", "recipe", "optim"),
    [
        ("model=clip_vit_base model.pretrained=true model.adapter=adaptformer", "adapter", "SGD"),
        ("model=vit_tiny model.weights=there.pt model.adapter=lora", "adapter", "SGD"),
        ("model=vit_tiny model.pretrained=true model.adapter=lora optim=adamw optim.lr=1e-3", "adapter", "AdamW"),
        ("model=vit_tiny model.pretrained=true model.adapter=lora recipe=finetune_vit", "finetune_vit", "AdamW"),
        ("preset=lift/imagenet_lt_car", "adapter", "SGD"),
    ],
)
def test_an_adapter_chooses_its_recipe(words: str, recipe: str, optim: str) -> None:
    config = compose_checked("train", words.split())
    assert (config.hydra.runtime.choices.recipe, config.optim._target_) == (recipe, f"carlt.training.optim.{optim}")


def test_an_adapter_on_random_weights_is_refused() -> None:
    with pytest.raises(CarltError, match=r"model.adapter=lora leaves .* random: add model.pretrained=true or model.w"):
        compose_checked("train", ["model=vit_tiny", "model.adapter=lora"])


def test_jobs_of_a_sweep_fine_tune_with_their_family_s_recipe() -> None:
    words = sweep_overrides("train", ["data=image_folder", "model=resnet50,vit_tiny", "model.pretrained=true"])
    job = [word.replace("resnet50,vit_tiny", "vit_tiny") for word in words]
    assert compose_config("train", job).optim.lr == 5e-5
