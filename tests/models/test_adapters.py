"""Adapters train few weights, begin as the network they are put in, and are refused where they do not fit."""

import json
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from carlt.errors import CarltError
from carlt.models import timm_model
from carlt.models.adapters import AdaptedMLP
from carlt.models.classifier import get_classifier
from carlt.models.weights import normalisation

C = 96  # so that two blocks a layer give a dimension above 1


def network(adapter: str | None = None, dim: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    return timm_model("test_vit", num_classes=C, image_size=32, adapter=adapter, adapter_dim=dim)


def trained(found: nn.Module) -> list[str]:
    return [name for name, parameter in found.named_parameters() if parameter.requires_grad]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("adapter", ["lora", "adaptformer", "bitfit"])
def test_it_begins_as_the_network_and_trains_little(adapter: str, images: torch.Tensor) -> None:
    if adapter == "lora":
        pytest.importorskip("peft", reason="LoRA needs the extra `adapters`")
    plain, adapted = network().eval(), network(adapter)
    torch.testing.assert_close(adapted.eval()(images), plain(images))
    before = {name: value.clone() for name, value in adapted.named_parameters()}
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # in the first step a zero beside them leaves some gradients zero
        optimizer.zero_grad()
        F.cross_entropy(adapted(images), torch.arange(4)).backward()
        optimizer.step()
    moved = {name for name, value in adapted.named_parameters() if not torch.equal(value, before[name])}
    assert moved == set(trained(adapted))
    assert {"head.weight", "head.bias"} <= moved
    size = sum(before[name].numel() for name in moved if not name.startswith("head"))
    assert 0 < size < 0.05 * sum(value.numel() for value in before.values())
    assert not torch.allclose(adapted(images), plain(images))


@pytest.mark.parametrize(("adapter", "width"), [("lora", "lora_A.default.weight"), ("adaptformer", "mlp.down.weight")])
def test_its_dimension_follows_the_classes_and_blocks_or_is_given(adapter: str, width: str) -> None:
    if adapter == "lora":
        pytest.importorskip("peft", reason="LoRA needs the extra `adapters`")
    for dim, expected in ((None, 8), (3, 3)):  # 2^floor(log2(96 / (2 * 6)))
        adapted = network(adapter, dim)
        blocks = len(adapted.blocks)
        assert blocks == 6
        assert {p.shape[0] for name, p in adapted.named_parameters() if name.endswith(width)} == {expected}


def test_bitfit_trains_every_bias() -> None:
    adapted = network("bitfit")
    biases = {name for name, _ in adapted.named_parameters() if name.endswith("bias")}
    assert set(trained(adapted)) == biases | {"head.weight"}


@torch.no_grad()
def test_adaptformer_by_hand() -> None:
    norm, mlp = nn.LayerNorm(6), nn.Linear(6, 6)
    layer = AdaptedMLP(norm, mlp, 6, 2)
    nn.init.normal_(layer.up.weight)
    layer.scale.fill_(0.5)
    x = torch.randn(2, 3, 6)
    for n in range(2):
        for token in range(3):
            own = layer.layer_norm(x[n, token])
            hidden = [max(0.0, float(row @ own + b)) for row, b in zip(layer.down.weight, layer.down.bias, strict=True)]
            added = layer.up.weight @ torch.tensor(hidden) + layer.up.bias
            torch.testing.assert_close(layer(x)[n, token], mlp(norm(x[n, token])) + 0.5 * added)


def test_what_does_not_fit_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for adapter in ("lora", "adaptformer"):
        with pytest.raises(CarltError, match=f"model.adapter={adapter} needs a transformer of .*; ResNet has none"):
            timm_model("test_resnet", C, image_size=32, adapter=adapter)
    after = folder(tmp_path, "vit_base_patch16_rpn_224", embed_dim=64, depth=2, num_heads=2, init_values=1)
    around = folder(tmp_path, "beit_base_patch16_224", embed_dim=64, depth=2, num_heads=2)
    for name, adapter in ((after, "adaptformer"), (around, "lora")):  # the norm after the MLP; a qkv that is bypassed
        with pytest.raises(
            CarltError, match=rf"model.adapter={adapter} does not fit \w+, whose blocks are built other"
        ):
            timm_model(name, C, image_size=32, adapter=adapter)
    with pytest.raises(CarltError, match="bitfit has no dimension"):
        network("bitfit", 2)
    with pytest.raises(CarltError, match=r"model.adapter_dim is of an adapter: add model.adapter="):
        network(None, 2)
    with pytest.raises(CarltError, match="adapter='lra': expected one of lora, adaptformer, bitfit"):
        network("lra")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(CarltError, match=r"model.adapter=lora needs peft: pip install 'carlt\[adapters\]'"):
        network("lora")


def openai_names(vit: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a timm ViT with the names and shapes of OpenAI's CLIP, a text tower beside them."""
    renamed = {"cls_token": "class_embedding", "norm_pre": "ln_pre", "norm": "ln_post", "patch_embed.proj": "conv1"}
    inside = {
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    state = {"transformer.resblocks.0.ln_1.weight": torch.zeros(2), "visual.proj": torch.randn(64, 16)}
    for name, value in vit.state_dict().items():
        if name.startswith("blocks."):
            _, block, rest = name.split(".", 2)
            module, _, kind = rest.rpartition(".")
            there = f"attn.in_proj_{kind}" if module == "attn.qkv" else f"{inside[module]}.{kind}"
            state[f"visual.transformer.resblocks.{block}.{there}"] = value
        elif name == "pos_embed":
            state["visual.positional_embedding"] = value[0]
        elif name == "cls_token":
            state["visual.class_embedding"] = value[0, 0]
        elif not name.startswith(("head", "patch_embed.proj.bias")):
            module, _, kind = name.rpartition(".")
            state[f"visual.{renamed[module]}.{kind}"] = value
    return state


def folder(tmp_path: Path, architecture: str, **sizes: object) -> str:
    """The name of a timm model of another size than its architecture's, described by a folder of its own."""
    try:
        timm.models.parse_model_name("local-dir:x")
    except AssertionError:
        pytest.skip(f"timm {timm.__version__} has no local-dir:")
    own = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "first_conv": "patch_embed.proj", "classifier": "head"}
    place = tmp_path / architecture
    place.mkdir()
    content = {"architecture": architecture, "num_classes": C, "model_args": sizes, "pretrained_cfg": own}
    (place / "config.json").write_text(json.dumps(content))
    return f"local-dir:{place}"


@pytest.mark.parametrize("adapter", [None, "lora", "adaptformer", "bitfit"])
def test_the_image_tower_of_a_clip_checkpoint(adapter: str | None, tmp_path: Path, images: torch.Tensor) -> None:
    if adapter == "lora":
        pytest.importorskip("peft", reason="LoRA needs the extra `adapters`")
    name = folder(tmp_path, "vit_base_patch16_clip_quickgelu_224", embed_dim=64, depth=2, num_heads=2)
    given = timm_model(name, 3, image_size=32)
    torch.save(openai_names(given), tmp_path / "clip.pt")
    found = timm_model(name, 5, image_size=32, weights=str(tmp_path / "clip.pt"), adapter=adapter).eval()
    features = given.eval().forward_head(given.forward_features(images), pre_logits=True)
    torch.testing.assert_close(found.forward_head(found.forward_features(images), pre_logits=True), features)
    assert get_classifier(found).weight.shape == (5, 64)
    assert (trained(found) == [n for n, _ in found.named_parameters()]) == (adapter is None)


def test_a_model_of_a_local_folder_has_its_own_normalisation(tmp_path: Path) -> None:
    name, given = folder(tmp_path, "test_vit", img_size=32), network()
    save_file(given.state_dict(), Path(name.removeprefix("local-dir:")) / "model.safetensors")
    found = timm_model(name, C, image_size=32, pretrained=True)
    assert normalisation(found, 3) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert torch.equal(found.head.weight, given.head.weight)
