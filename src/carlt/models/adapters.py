"""Parameter-efficient fine-tuning: pretrained weights stay as they are, and few others are trained."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carlt.errors import CarltError
from carlt.models.classifier import get_classifier

Adapter = Literal["lora", "adaptformer", "bitfit"]


class AdaptedMLP(nn.Module):
    """mlp(norm(x)) + scale * up(relu(down(layer_norm(x)))): AdaptFormer (Chen et al., NeurIPS 2022, eq. 5).

    x (..., D) is the residual stream. As in LIFT's code, the bottleneck has its own layer norm and a learned
    ``scale``. ``up`` begins with zeros, so the network begins as it was.
    """

    def __init__(self, norm: nn.Module, mlp: nn.Module, width: int, dim: int):
        super().__init__()
        self.norm, self.mlp = norm, mlp
        self.layer_norm = nn.LayerNorm(width)
        self.down, self.up = nn.Linear(width, dim), nn.Linear(dim, width)
        self.scale = nn.Parameter(torch.ones(()))
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm(x)) + self.scale * self.up(F.relu(self.down(self.layer_norm(x))))


def add_adapter(network: nn.Module, adapter: Adapter, dim: int | None, images: Tensor) -> None:
    """Freeze ``network`` except for its classifier and what ``adapter`` adds or keeps trainable.

    lora         a low-rank addition to each attention's qkv: W + B A, rank ``dim`` (Hu et al., ICLR 2022), by ``peft``
    adaptformer  a bottleneck of width ``dim`` beside each block's MLP (``AdaptedMLP``)
    bitfit       the bias terms (Ben Zaken et al., ACL 2022)

    Args:
        dim: by default 2^floor(log2(C / 2L)), at least 1, for C classes and L blocks (LIFT, ICML 2024).
        images: a batch (N, channels, H, W) on which the network must give the same logits as before.

    Raises:
        CarltError: the network has no blocks of this kind, or peft is not installed.
    """
    head: Any = get_classifier(network)
    measured = images.device.type != "meta"  # without numbers there is nothing to compare
    with torch.no_grad():
        before = network.eval()(images) if measured else None
    network.requires_grad_(False)
    trained = {"lora": _add_lora, "adaptformer": _add_adaptformer, "bitfit": _biases}[adapter](network, dim)
    for parameter in [*trained, *head.parameters()]:
        parameter.requires_grad_(True)
    if before is not None:
        logits = network.eval()(images)
        reached = torch.autograd.grad(logits.sum(), trained, allow_unused=True)
        if not torch.allclose(logits, before, atol=1e-4) or all(gradient is None for gradient in reached):
            raise CarltError(
                f"model.adapter={adapter} does not fit {type(network).__name__}, whose blocks are built otherwise; "
                "choose another adapter, or leave it out to train the whole network"
            )
    network.train()


def _add_lora(network: nn.Module, dim: int | None) -> list[nn.Parameter]:
    try:
        from peft import LoraConfig, inject_adapter_in_model  # imported here, because it takes seconds to import
    except ImportError:
        raise CarltError("model.adapter=lora needs peft: pip install 'carlt[adapters]'") from None
    linear = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    targets = [name for name in linear if name.endswith("attn.qkv")]
    if not targets:
        raise _no_blocks(network, "lora", "attention with a linear qkv")
    rank = _default_dim(network, len(targets)) if dim is None else dim
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), network)
    return [parameter for name, parameter in network.named_parameters() if ".lora_" in name]


def _add_adaptformer(network: nn.Module, dim: int | None) -> list[nn.Parameter]:
    blocks: list[Any] = [
        block
        for block in network.modules()
        if hasattr(block, "mlp") and isinstance(getattr(block, "norm2", None), nn.LayerNorm)
    ]
    if not blocks:
        raise _no_blocks(network, "adaptformer", "blocks with norm2 and mlp")
    width = _default_dim(network, len(blocks)) if dim is None else dim
    trained: list[nn.Parameter] = []
    for block in blocks:
        block.mlp = AdaptedMLP(block.norm2, block.mlp, block.norm2.normalized_shape[-1], width)
        block.norm2 = nn.Identity()
        trained += [*block.mlp.layer_norm.parameters(), *block.mlp.down.parameters(), *block.mlp.up.parameters()]
        trained.append(block.mlp.scale)
    return trained


def _biases(network: nn.Module, dim: int | None) -> list[nn.Parameter]:
    if dim is not None:
        raise CarltError("model.adapter_dim is for lora and adaptformer; bitfit has no dimension")
    head = {id(parameter) for parameter in get_classifier(network).parameters()}
    named = [(name, p) for name, p in network.named_parameters() if id(p) not in head]
    return [parameter for name, parameter in named if name.endswith("bias")]


def _default_dim(network: Any, blocks: int) -> int:
    return 2 ** max(0, int(math.log2(len(get_classifier(network).weight) / (2 * blocks))))


def _no_blocks(network: nn.Module, adapter: str, wanted: str) -> CarltError:
    return CarltError(
        f"model.adapter={adapter} needs a transformer of {wanted}; {type(network).__name__} has none. bitfit takes any"
    )
