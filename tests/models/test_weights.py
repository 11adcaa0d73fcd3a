"""Weights from a file: read as data, fitted or refused."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from carlt.errors import CarltError
from carlt.models import SmallCNN, timm_model
from carlt.models.weights import load_weights, normalisation, take_normalisation


def network(classes: int, seed: int) -> SmallCNN:
    torch.manual_seed(seed)
    return SmallCNN(classes, width=4)


def save(state: dict, folder: Path, form: str) -> Path:
    path = folder / f"weights.{form}"
    if form == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_all_weights_come_from_the_file(form: str, tmp_path: Path) -> None:
    given, wanted = network(5, seed=0), network(5, seed=1)
    load_weights(wanted, str(save(given.state_dict(), tmp_path, form)))
    assert same(given, wanted)


@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_a_classifier_of_other_classes_stays_as_it_was(form: str, tmp_path: Path) -> None:
    given, wanted, untouched = network(5, seed=0), network(7, seed=1), network(7, seed=1)
    load_weights(wanted, str(save(given.state_dict(), tmp_path, form)))
    assert same(given.features, wanted.features)
    assert same(untouched.classifier, wanted.classifier)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_wrappers_and_prefixes_are_taken_off(wrapper: str, prefix: str, tmp_path: Path) -> None:
    given, wanted = network(5, seed=0), network(5, seed=1)
    state = {prefix + name: tensor for name, tensor in given.state_dict().items()}
    load_weights(wanted, str(save({wrapper: state, "epoch": 3}, tmp_path, "pt")))
    assert same(given, wanted)


def test_a_run_s_checkpoint_gives_its_network(finished: Path) -> None:
    last = finished / "checkpoints" / "last.ckpt"
    wanted = SmallCNN(10, in_channels=1)
    load_weights(wanted, str(last))
    state = torch.load(last, weights_only=True)["state_dict"]
    assert torch.equal(wanted.classifier.weight, state["model.classifier.weight"])


def test_a_timm_classifier_of_other_classes_stays_as_it_was(tmp_path: Path) -> None:
    given = timm_model("test_resnet", num_classes=5)
    wanted = timm_model("test_resnet", num_classes=3, weights=str(save(given.state_dict(), tmp_path, "pt")))
    assert torch.equal(given.conv1[0].weight, wanted.conv1[0].weight)
    assert wanted.fc.weight.shape[0] == 3


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = save(SmallCNN(5, width=6).state_dict(), tmp_path, "pt")
    with pytest.raises(CarltError, match=r"does not fit SmallCNN: .*\(6, 3, 3, 3\) where \(4, 3, 3, 3\) is wanted"):
        load_weights(network(5, seed=0), str(path))


def test_old_files_have_no_count_of_batches(tmp_path: Path) -> None:
    given, wanted = network(5, seed=0), network(5, seed=1)
    state = {name: value for name, value in given.state_dict().items() if not name.endswith("num_batches_tracked")}
    load_weights(wanted, str(save(state, tmp_path, "pt")))
    assert same(given, wanted)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    state = network(5, seed=0).state_dict()
    del state["features.0.0.weight"]
    with pytest.raises(CarltError, match=r"features\.0\.0\.weight is missing"):
        load_weights(network(5, seed=0), str(save(state, tmp_path, "pt")))


def test_no_such_file() -> None:
    with pytest.raises(CarltError, match=r"model.weights=nowhere\.pt is not a file: put the weights at /"):
        load_weights(network(5, seed=0), "nowhere.pt")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_damaged_file_is_one_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"not weights")
    with pytest.raises(CarltError, match="holds no plain weights"):
        load_weights(network(5, seed=0), str(path))


def test_something_else_than_weights(tmp_path: Path) -> None:
    path = tmp_path / "list.pt"
    torch.save([1, 2], path)
    with pytest.raises(CarltError, match="holds no dictionary of tensors"):
        load_weights(network(5, seed=0), str(path))


ODD_TENSORS = {
    "complex": lambda value: value.to(torch.complex64),
    "sparse": lambda value: value.to_sparse(),
    "meta": lambda value: value.to("meta"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about sparse tensors
@pytest.mark.parametrize("odd", ODD_TENSORS.values(), ids=ODD_TENSORS)
def test_odd_tensors_are_named(odd: Callable, tmp_path: Path) -> None:
    state = network(5, seed=0).state_dict()
    state["classifier.weight"] = odd(state["classifier.weight"])
    with pytest.raises(CarltError, match=r"weights.pt: 'classifier.weight' is no plain tensor of real numbers"):
        load_weights(network(5, seed=0), str(save(state, tmp_path, "pt")))


def test_a_file_that_unpacks_to_more_than_it_holds(tmp_path: Path) -> None:
    plain = save(network(5, seed=0).state_dict() | {"more": torch.zeros(1 << 22)}, tmp_path, "pt")
    with zipfile.ZipFile(plain) as parts, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for part in parts.infolist():
            packed.writestr(part.filename, parts.read(part))
    with pytest.raises(CarltError, match=r"bomb.pt holds no plain weights \(it unpacks to 16 MiB\)"):
        load_weights(network(5, seed=0), str(tmp_path / "bomb.pt"))
    (tmp_path / "bomb.pt").write_bytes((tmp_path / "bomb.pt").read_bytes() + bytes(66_000))  # no zip file to Python
    with pytest.raises(CarltError, match=r"bomb.pt holds no plain weights \(BadZipFile\)"):
        load_weights(network(5, seed=0), str(tmp_path / "bomb.pt"))


class Length:
    """Pickled as a call that takes a gigabyte."""

    def __reduce__(self):
        return bytearray, (1 << 30,)


def doubled(depth: int) -> tuple:
    """A tuple whose hash takes 2^depth steps."""
    return () if not depth else (doubled(depth - 1),) * 2


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("content", "said"),
    [(Length(), "it calls .*bytearray"), (doubled(60), "it holds a tuple of more than 10,000 parts")],
)
def test_a_small_file_that_asks_for_all_memory_or_time(
    content: object, said: str, zipped: bool, tmp_path: Path
) -> None:
    place = tmp_path / "weights.pt"
    torch.save([content], place, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CarltError, match=rf"weights.pt holds no plain weights \({said}\)"):
        load_weights(network(5, seed=0), str(place))


@pytest.mark.parametrize("zipped", [True, False])
def test_old_and_new_files_of_torch_are_read(zipped: bool, tmp_path: Path) -> None:
    given, found = network(5, seed=1), network(5, seed=0)
    torch.save(given.state_dict(), tmp_path / "weights.pt", _use_new_zipfile_serialization=zipped)
    load_weights(found, str(tmp_path / "weights.pt"))
    assert torch.equal(found.state_dict()["classifier.weight"], given.state_dict()["classifier.weight"])


ONE = torch.ones(1)
NO_NORMALISATION = {
    "no numbers": (torch.zeros(0), torch.zeros(0)),
    "two channels": (torch.zeros(2), torch.ones(2)),
    "other numbers of channels": (torch.zeros(3), ONE),
    "more than memory holds": (torch.zeros(1).expand(2**26), torch.ones(1).expand(2**26)),
    "complex": (ONE.to(torch.complex64), ONE),
    "sparse": (torch.ones(3).to_sparse(), torch.ones(3)),
    "integers": (ONE, ONE.int()),
    "a mean that is NaN": (ONE * torch.nan, ONE),
    "an infinite deviation": (ONE, ONE / 0),
    "a deviation of 0": (ONE, ONE * 0),
    "a negative deviation": (torch.zeros(3), torch.tensor([1.0, -1.0, 1.0])),
    "texts": ("x", "x"),
}


@pytest.mark.parametrize("case", NO_NORMALISATION)
def test_a_normalisation_that_is_none(case: str) -> None:
    mean, std = NO_NORMALISATION[case]
    given = network(5, seed=0)
    with pytest.raises(CarltError, match=r"file.pt: mean and std are no normalisation of 1 or 3 channels"):
        take_normalisation(given, {"mean": mean, "std": std}, "file.pt")
    assert normalisation(given, 3) is None


def test_a_file_without_a_normalisation_is_named(tmp_path: Path) -> None:
    state = network(5, seed=0).state_dict() | {"mean": torch.zeros(1), "std": torch.zeros(1)}
    with pytest.raises(CarltError, match=r"model.weights=.*weights.pt: mean and std are no normalisation"):
        load_weights(network(5, seed=0), str(save(state, tmp_path, "pt")))


class Touch:
    """Unpickling an object of this class makes the file ``path``: what a hostile file could do."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_nothing_in_the_file_is_executed(tmp_path: Path) -> None:
    path, trace = tmp_path / "hostile.pt", tmp_path / "executed"
    torch.save({"state_dict": Touch(trace)}, path)
    with pytest.raises(CarltError, match="nothing was run"):
        load_weights(network(5, seed=0), str(path))
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the trap does work
    assert trace.exists()


def test_timm_weights_bring_their_normalisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *args, pretrained, **options: create(*args, **options))
    half = ((0.5,) * 3, (0.5,) * 3)
    for name, wanted in (("vit_tiny_patch16_224", half), ("resnet18", ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))):
        assert normalisation(timm_model(name, num_classes=2, pretrained=True), 3) == wanted
        assert normalisation(timm_model(name, num_classes=2), 3) is None
    file = str(save(timm_model("test_vit", num_classes=2, image_size=160).state_dict(), tmp_path, "pt"))
    assert normalisation(timm_model("test_vit", num_classes=2, image_size=160, weights=file), 3) == half


def test_grey_images_take_the_mean_over_the_colours(tmp_path: Path) -> None:
    given = timm_model("resnet18", num_classes=2, in_channels=1)
    file = str(save(given.state_dict(), tmp_path, "pt"))
    mean, std = normalisation(timm_model("resnet18", num_classes=2, in_channels=1, weights=file), 1)
    assert mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
    assert std == pytest.approx([(0.229 + 0.224 + 0.225) / 3])


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_a_colour_file_for_grey_images_sums_its_first_layer(name: str, tmp_path: Path) -> None:
    colour = timm_model(name, num_classes=2, image_size=160)
    file = str(save(colour.state_dict(), tmp_path, "pt"))
    grey = timm_model(name, num_classes=2, in_channels=1, image_size=160, weights=file)
    image = torch.rand(2, 1, 160, 160)
    with torch.no_grad():
        assert torch.allclose(grey.eval()(image), colour.eval()(image.expand(-1, 3, -1, -1)), atol=1e-5)


def test_a_run_s_checkpoint_gives_its_normalisation(finished: Path) -> None:
    wanted = SmallCNN(10, in_channels=1, weights=str(finished / "checkpoints" / "last.ckpt"))
    state = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert normalisation(wanted, 1) == (tuple(state["mean"].flatten().tolist()), tuple(state["std"].flatten().tolist()))


@pytest.mark.parametrize(("name", "sizes"), [("test_vit", (160, 96)), ("swin_tiny_patch4_window7_224", (224, 112))])
def test_a_transformer_of_another_image_size_is_resampled(name: str, sizes: tuple[int, int], tmp_path: Path) -> None:
    given = timm_model(name, num_classes=2, image_size=sizes[0])
    file = save(given.state_dict(), tmp_path, "pt")
    wanted = timm_model(name, num_classes=3, image_size=sizes[1], weights=str(file))
    own = dict(wanted.named_parameters())
    same = [key for key, value in given.named_parameters() if own[key].shape == value.shape and own[key].equal(value)]
    other = {key for key in own if key not in same}
    assert all("pos" in key for key in other if not key.startswith("head"))  # the positions and the classifier
    assert wanted(torch.zeros(1, 3, sizes[1], sizes[1])).shape == (1, 3)


def test_weights_of_a_deeper_network_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    deeper = timm_model("resnet34", 5, image_size=32)
    torch.save(deeper.state_dict(), tmp_path / "deeper.pth")
    timm_model("resnet18", 5, image_size=32, weights=str(tmp_path / "deeper.pth"))
    (record,) = caplog.records
    assert "96 of its 218 tensors are of no use to ResNet, the first: layer1.2." in record.getMessage()
    caplog.clear()
    timm_model("resnet34", 7, image_size=32, weights=str(tmp_path / "deeper.pth"))
    assert not caplog.records
