from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from carlt.aug import Compose, SimCLR
from carlt.config.compose import compose_config
from carlt.config.given import Given, given
from carlt.config.instantiate import build
from carlt.config.overrides import compose_checked
from carlt.data import CIFAR10LT
from carlt.data.images import ArrayImages, Split, Splits
from carlt.errors import CarltError
from carlt.models import SmallCNN
from carlt.models.class_means import RunningClassMeans
from carlt.training import build as building
from carlt.training.build import build_data, build_module
from carlt.training.checks import check_image_size, check_length, check_scale
from carlt.training.module import LongTailClassifier


@pytest.mark.parametrize(
    "override",
    [
        "trainer.max_epochs=0",
        "trainer.max_epochs=-1",
        "trainer.max_epochs=null",
        "++trainer.check_val_every_n_epoch=0",
        "++trainer.limit_train_batches=0",
    ],
)
def test_a_run_needs_epochs_with_steps_in_them(override: str) -> None:
    with pytest.raises(CarltError, match=override.lstrip("+").split("=")[0]):
        compose_checked("train", [override])


@pytest.mark.parametrize(
    "override",
    [
        "seed=-1",
        "seed=4294967296",
        "data.batch_size=0",
        "++data.eval_batch_size=0",
        "++data.num_workers=-1",
        "data.image_size=0",
        "++data.test_per_class=0",
        "data.imbalance_factor=0.5",
    ],
)
def test_a_value_out_of_range_names_its_key(override: str) -> None:
    key = override.lstrip("+").split("=")[0].split(".")[-1]
    with pytest.raises(CarltError, match=key):
        build_data(compose_config("train", [override]))


@pytest.mark.parametrize("override", ["optim.lr=-1", "optim.lr=0", "optim.lr=nan", "optim.weight_decay=-1"])
def test_an_optimizer_out_of_range_names_its_key(override: str) -> None:
    with pytest.raises(CarltError, match="optim: " + override.split(".")[1].split("=")[0]):
        build(compose_config("train", [override]), "optim")


def test_images_can_be_normalised_with_imagenet_s_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split(ArrayImages(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), torch.tensor([0, 0, 1, 1]))
    monkeypatch.setattr(CIFAR10LT, "load", lambda self: Splits(split, None, split, ["a", "b"]))
    monkeypatch.setattr(building, "normalisation", lambda *_: ((0.5,) * 3, (0.5,) * 3))  # as of a pretrained network
    means = []
    for words in ((), ("data.normalisation=imagenet",)):
        config = compose_checked("train", ["data=cifar10_lt", "model=small_cnn", "data.image_size=8", *words])
        means.append(build_module(config, build_data(config)).mean.flatten().tolist())
    assert means == [[0.5] * 3, pytest.approx([0.485, 0.456, 0.406])]
    with pytest.raises(CarltError, match=r"data.normalisation=imagenet needs colour images; digits_lt has none"):
        build_data(compose_checked("train", ["data.normalisation=imagenet"]))


@pytest.mark.parametrize(("size", "warned"), [(8, False), (64, False), (96, True)])
def test_a_network_for_small_images_warns_of_large_ones(
    size: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = compose_config("train", [f"data.image_size={size}"])
    data = build_data(config)
    build_module(config, data)
    expected = "SmallCNN is made for images of 32 pixels; at data.image_size=96 a step takes about 9 times as much time"
    assert (expected in caplog.text) == warned


@pytest.mark.parametrize("loss", ["ce", "ride"])
def test_concutmix_labels_by_running_class_means_where_the_loss_has_no_centres(loss: str) -> None:
    """Batches without patches move the means; pasted ones are labelled by them after ``start``."""
    config = compose_config(
        "train", ["aug=concutmix", f"loss={loss}", "++aug.relabel.start=0", "++aug.relabel.omega=1"]
    )
    data = build_data(config)
    module = build_module(config, data)
    module.log = lambda *_, **__: None
    module._trainer = type("T", (), {"current_epoch": 0, "global_rank": 0, "max_epochs": 1})()
    plain, pasted = None, None
    for batch in data.train_dataloader():
        plain, pasted = (batch, pasted) if batch.foreground is None else (plain, batch)
    assert isinstance(module.class_means, RunningClassMeans)
    assert module.class_means.means.isnan().all()
    module.training_step(plain, 0)["loss"].backward()
    moved = module.class_means.means.clone()
    assert not moved[plain.labels].isnan().any()
    _, area = module.mixed(pasted)
    seen = []
    relabel = module.relabel
    module.relabel = lambda *given: seen.append((given, relabel(*given))) or seen[-1][1]
    module.training_step(pasted, 1)["loss"].backward()
    (features, centres, _), labels = seen[0]
    assert features.shape[1] == centres.shape[1]
    assert (labels > 0).sum() > (area > 0).sum()
    torch.testing.assert_close(labels.sum(1), torch.ones(len(labels)))
    assert torch.equal(module.class_means.means.nan_to_num(), moved.nan_to_num())


def test_class_means_need_batches_without_patches() -> None:
    config = compose_config("train", ["aug=concutmix", "loss=ce", "+aug.paste.probability=1"])
    with pytest.raises(CarltError, match=r"aug\.paste\.probability=1: aug\.relabel takes class means"):
        build_module(config, build_data(config))
    config = compose_config("train", ["aug=concutmix", "loss=bcl", "+aug.paste.probability=1"])
    assert build_module(config, build_data(config)).class_means is None


def test_both_views_of_glmc_are_augmented() -> None:
    views = build_data(compose_config("train", ["loss=glmc", "aug=autoaugment"])).views
    assert views.contrast is views.view
    assert isinstance(views.view, Compose)
    views = build_data(compose_config("train", ["loss=bcl", "aug=autoaugment"])).views
    assert isinstance(views.contrast, SimCLR)


@pytest.mark.parametrize(("epochs", "warned"), [(2, True), (5, True), (6, False), (1, False)])
def test_a_run_within_its_warm_up_is_warned_of(epochs: int, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    config = compose_config("train", ["optim.warmup_epochs=5", f"trainer.max_epochs={epochs}"])
    check_length(config, build_data(config))
    assert ("the learning rate never reaches optim.lr" in caplog.text) == warned


def test_concutmix_needs_a_network_with_features(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(config: object, place: str, **context: object) -> object:
        return torch.nn.Linear(1, 1) if place == "model" else build(config, place, **context)

    monkeypatch.setattr("carlt.training.build.build", make)
    config = compose_config("train", ["aug=concutmix"])
    with pytest.raises(CarltError, match=r"Linear does not tell features and classifier apart: .* aug=concutmix"):
        build_module(config, build_data(config))


def test_a_first_run_without_a_normalisation_is_named() -> None:
    network = SmallCNN(2, width=4)
    given = {f"model.{name}": value for name, value in network.state_dict().items()}
    with pytest.raises(CarltError, match=r"init_run=runs/x: mean and std are no normalisation of 1 or 3 channels"):
        building._load(network, given | {"mean": torch.zeros(0), "std": torch.zeros(0)}, "runs/x")


def test_null_leaves_a_named_part_out(run, tmp_path: Path) -> None:
    words = ("reg=none", "aug=[mixup,randaugment]", "aug.transforms.randaugment=null")
    words += ("logger=tensorboard", "logger.tensorboard=null")
    assert run(tmp_path, *words, "trainer.max_epochs=1")["epochs"] == 1
    config = compose_checked("train", words)
    assert not isinstance(build_data(config).views.view, Compose)


def test_null_for_what_the_loss_needs_is_one_message() -> None:
    config = compose_checked("train", ["loss=bcl", "aug.contrast=null"])
    with pytest.raises(CarltError, match=r"aug\.contrast is null, and this run needs it: leave aug\.contrast=null out"):
        build_data(config)


def test_an_error_without_text_is_named_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError

    monkeypatch.setattr(SmallCNN, "__init__", refuse)
    with pytest.raises(CarltError, match=r"^model \(carlt\.models\.SmallCNN\): ValueError$"):
        build(compose_checked("train", []), "model", num_classes=10, in_channels=1, image_size=8)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (
            ["aug=[mixup,concutmix]"],
            r"aug\.mix .* mixes every batch without a patch, and aug\.relabel takes class means",
        ),
        (["aug=cmo", "++aug.paste.probability=1", "aug=concutmix"], r"aug\.paste\.probability=1"),
        (["+aug.second._target_=carlt.aug.SecondBatch"], r"aug\.second: CrossEntropy uses no second batch"),
    ],
)
def test_augmentations_that_undo_one_another_are_refused(overrides: list[str], complaint: str) -> None:
    def build_both() -> None:
        config = compose_checked("train", ["data=digits_lt", "model=small_cnn", *overrides])
        build_module(config, build_data(config))

    with pytest.raises(CarltError, match=complaint):
        build_both()


@pytest.mark.parametrize("loss", ["ldam", "ride"])
def test_a_margin_has_the_scale_of_its_cosines(loss: str) -> None:
    def module(*overrides: str) -> LongTailClassifier:
        model = "model=small_cnn" if loss == "ldam" else "model=resnet32"
        config = compose_checked("train", ["data=digits_lt", model, f"loss={loss}", *overrides])
        return build_module(config, build_data(config))

    check_scale(module())
    check_scale(module("model.cosine_scale=20"))
    with pytest.raises(
        CarltError, match=r"loss\.scale=20, but the classifier has the scale 30.*model\.cosine_scale=20"
    ):
        check_scale(module("loss.scale=20"))


@pytest.mark.parametrize("name", ["paste", "second"])
def test_a_power_out_of_range_names_its_key(name: str) -> None:
    aug, loss = ("cmo", "ce") if name == "paste" else ("randaugment", "glmc")
    with pytest.raises(CarltError, match=rf"aug\.{name}\.power=2"):
        compose_checked("train", [f"aug={aug}", f"loss={loss}", f"++aug.{name}.power=2"])


def test_a_look_at_a_network_leaves_the_modes_of_its_parts() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(48).eval(), torch.nn.Linear(48, 3))
    check_image_size(network, SimpleNamespace(image_size=4, channels=3))  # type: ignore[arg-type]
    with given({"model": network}):
        assert Given("model", "Sequential", "", num_classes=3, in_channels=3, image_size=4) is network
    assert [part.training for part in network] == [True, False, True]
    assert network.training
