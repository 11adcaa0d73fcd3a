import pytest
import torch
from torch import nn

from carlt.errors import CarltError
from carlt.models import CifarResNet, SmallCNN, timm_model


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (32, 464_154)])
def test_cifar_resnets_have_the_published_size(depth: int, parameters: int) -> None:
    # He et al., table 6: 0.27 and 0.46 million, of 10 classes, here counted to the last one.
    assert size(CifarResNet(10, depth)) == parameters


def test_cifar_resnet_halves_the_image_twice() -> None:
    network = CifarResNet(10, 8, width=4)
    assert network.stages(torch.zeros(2, 4, 32, 32)).shape == (2, 16, 8, 8)


def test_a_block_without_weights_is_its_shortcut() -> None:
    block = CifarResNet(10, 8, width=4).stages[1].eval()  # 4 to 8 channels, stride 2
    nn.init.zeros_(block.conv2.weight)
    images = torch.rand(1, 4, 6, 6)
    out = block(images)
    assert torch.equal(out[:, 2:6], images[:, :, ::2, ::2])
    assert not out[:, :2].any()
    assert not out[:, 6:].any()


def test_the_convolutions_of_a_cifar_resnet_begin_with_he_et_al_s_standard_deviation() -> None:
    """Divided by sqrt(2 / fan_in), the weights of all layers together have mean 0 and standard deviation 1."""
    torch.manual_seed(0)
    layers = [layer.weight.detach() for layer in CifarResNet(10, 20).modules() if isinstance(layer, nn.Conv2d)]
    scaled = torch.cat([weight.flatten() / (2 / weight[0].numel()) ** 0.5 for weight in layers])
    assert len(layers) == 19
    assert scaled.mean().abs() < 5 / len(scaled) ** 0.5
    assert (scaled.std() - 1).abs() < 5 / (2 * len(scaled)) ** 0.5


@pytest.mark.parametrize("width", [3, 21])
def test_an_odd_width(width: int) -> None:
    network = CifarResNet(10, 8, width=width)
    assert network.features(torch.zeros(2, 3, 32, 32)).shape == (2, 4 * width)


@pytest.mark.parametrize("depth", [2, 9, 18])
def test_a_depth_that_no_cifar_resnet_has(depth: int) -> None:
    with pytest.raises(CarltError, match=f"6n \\+ 2 .* not {depth}"):
        CifarResNet(10, depth)


@pytest.mark.parametrize("side", [4, 8, 13])
def test_small_cnn_takes_any_size(side: int) -> None:
    assert SmallCNN(7, in_channels=1)(torch.zeros(2, 1, side, side)).shape == (2, 7)


def test_an_unknown_timm_name_lists_near_ones() -> None:
    with pytest.raises(CarltError, match=r"model.name='resnet51' is no timm model; near it: .*resnet"):
        timm_model("resnet51", num_classes=3)


def test_a_timm_network_for_another_size_and_number_of_channels() -> None:
    network = timm_model("test_vit", num_classes=3, in_channels=1, image_size=32)
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 3)


def test_drop_path_rises_to_the_rate_that_is_asked() -> None:
    rates = [
        part.drop_prob
        for part in timm_model("test_vit", num_classes=3, image_size=32, drop_path_rate=0.3).modules()
        if type(part).__name__ == "DropPath"
    ]
    assert max(rates) == pytest.approx(0.3)
    assert not any(type(part).__name__ == "DropPath" for part in timm_model("test_vit", 3, image_size=32).modules())


def test_a_network_of_timm_that_cannot_take_the_images_is_an_error_at_once() -> None:
    with pytest.raises(CarltError, match=r"'test_vit' cannot .*33"):
        timm_model("test_vit", num_classes=3, image_size=33)


def test_weights_that_cannot_be_downloaded_are_a_plain_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def unreachable(*_: object, pretrained: bool, **__: object) -> None:
        assert pretrained
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        CarltError,
        match=r"cannot be had \(no network\).*fetch model.safetensors of timm/resnet18\.a1_in1k.*"
        "put that file anywhere on this machine, and give its path as model.weights=<file>",
    ):
        timm_model("resnet18", num_classes=3, pretrained=True)
