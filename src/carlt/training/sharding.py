"""``trainer=fsdp``: a network whose weights, gradients and optimizer state are shared out over the devices."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.modules.batchnorm import _BatchNorm

from carlt.errors import CarltError
from carlt.losses.base import NetworkLoss

NAME = "fsdp"
BLOCK = 10_000
"""Blocks of a sequence (a transformer's) with at least this many weights are gathered one at a time."""


class FullySharded(ModelParallelStrategy):
    """PyTorch's fully sharded data parallelism, with checkpoints of one file, as every other run has.

    Of the two kinds that Lightning has this is the one in which weights keep their shape: by it the optimizer leaves
    biases and norms undecayed. It runs on processors, too.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def strategy(name: Any) -> Any:
    """What Lightning's trainer takes for ``trainer.strategy``.

    Raises:
        CarltError: one of Lightning's own kinds of FSDP.
    """
    if str(name).startswith(f"{NAME}_"):
        raise CarltError(f"trainer.strategy={name}: expected {NAME}; checkpoints of the other kinds fit no other run")
    return FullySharded() if name == NAME else name


def check(module: Any, config: Any) -> None:
    """CarltError if the weights of ``module`` cannot be shared out: where they are used outside of the network's own
    forward pass, or where each device would keep numbers of its own."""
    if config.trainer.get("strategy") != NAME:
        return
    outside = [name for name, value in module.named_parameters() if value.requires_grad and name[:6] != "model."]
    troubles = {
        f"loss={type(module.loss).__name__} runs parts of the network": isinstance(module.loss, NetworkLoss),
        "a second stage runs parts of the network": bool(config.get("stage")),
        "aug.relabel runs parts of the network": module.relabel is not None,
        "optim.ema_decay keeps a whole copy of the weights": module.average is not None,
        "trainer.compile is not tested with it": bool(config.trainer.get("compile")),
        f"weights outside of the network ({', '.join(outside[:1])}) are not shared out": bool(outside),
        "batch normalisation would have statistics of its own on each device": any(
            isinstance(part, _BatchNorm) for part in module.modules()
        ),
    }
    for trouble, found in troubles.items():
        if found:
            raise CarltError(f"trainer.strategy={NAME}: {trouble}; leave that out, or take trainer=ddp")


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Share the weights of ``network`` out over ``mesh``, in place, unless that is done."""
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if isinstance(network, FSDPModule):
        return
    for sequence in reversed(list(network.modules())):  # from the inside out, as fully_shard asks for
        if isinstance(sequence, nn.Sequential | nn.ModuleList):
            for block in sequence:
                if sum(value.numel() for value in block.parameters()) >= BLOCK:
                    fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def gather(network: nn.Module) -> None:
    """Give each device all weights of ``network``, which stay there: one device may then use it by itself. Every rank
    must call it."""
    from torch.distributed.fsdp import FSDPModule

    for part in network.modules():
        if isinstance(part, FSDPModule):
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()


def load_whole(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """``module.load_state_dict`` with whole weights, of a module whose weights may be shared out."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
    from torch.distributed.tensor import DTensor

    if any(isinstance(value, DTensor) for value in module.parameters()):
        set_model_state_dict(module, dict(state), options=StateDictOptions(full_state_dict=True))
    else:
        module.load_state_dict(state)
