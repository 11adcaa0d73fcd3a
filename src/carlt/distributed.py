"""Gathering over processes; the only importer of torch.distributed. With one process everything is the identity."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's place in [0, world_size)."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_ragged(tensors: Sequence[Tensor], amount: Tensor | None = None) -> tuple[list[Tensor], Tensor, slice]:
    """Concatenate each tensor over the ranks, in rank order, and sum up a number.

    Every rank must call it; it waits for the device once, for the sizes. Carries no gradient.

    Args:
        tensors: each (n, ...), n alike within a rank; it may differ between ranks.
        amount: a scalar; by default 0.

    Returns:
        The joined tensors, each (sum of n, ...); the sum of all ranks' ``amount``; and the slice that is this rank's
        share.
    """
    tensors = [tensor.detach() if tensor.requires_grad else tensor for tensor in tensors]
    amount = tensors[0].new_zeros(()) if amount is None else amount
    if world_size() == 1:
        return tensors, amount, slice(None)
    size = tensors[0].new_full((), len(tensors[0]), dtype=torch.float64)
    table = torch.stack(all_gather(torch.stack([size, amount.to(size)])))
    sizes = [int(size) for size in table[:, 0].tolist()]
    start = sum(sizes[: rank()])
    return gather_rows(tensors, sizes), table[:, 1].sum(), slice(start, start + len(tensors[0]))


def gather_rows(tensors: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """Each tensor (n_r, ...) of every rank joined in rank order, given every n_r: (sum of sizes, ...).

    One collective for all: the tensors' rows travel side by side, as bytes.
    """
    flat = [tensor.reshape(len(tensor), math.prod(tensor.shape[1:])) for tensor in tensors]
    rows = torch.cat([dense(part).view(torch.uint8) for part in flat], 1)
    padded = rows.new_zeros(max(sizes), rows.shape[1])  # collectives need equal shapes
    padded[: len(rows)] = rows
    joined = torch.cat([part[:size] for part, size in zip(all_gather(padded), sizes, strict=True)])
    parts = joined.split([part.shape[1] * part.element_size() for part in flat], 1)
    return [
        dense(part).view(tensor.dtype).reshape(-1, *tensor.shape[1:])
        for part, tensor in zip(parts, tensors, strict=True)
    ]


def dense(rows: Tensor) -> Tensor:
    """A copy whose strides can be viewed as another type; ``contiguous`` keeps odd strides where a size is 1."""
    return rows.clone(memory_format=torch.contiguous_format)


def all_gather(tensor: Tensor) -> list[Tensor]:
    """Every rank's ``tensor``, all of one shape, in rank order."""
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor)
    return parts


def sum_over_ranks(*tensors: Tensor) -> None:
    """Replace each tensor, of one shape on all ranks, by its sum over the ranks. Every rank must call it."""
    if world_size() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def leave() -> None:
    """End this process's part in a process group, if it has one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
