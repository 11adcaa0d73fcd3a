"""CAR on 2 and 4 processes is CAR on one with the joined batch. Run as a script, this file is one of the processes."""

import subprocess
import sys

import pytest
import torch
from torch import distributed as dist
from torch import nn

from carlt.distributed import gather_ragged, world_size
from carlt.errors import CarltError
from carlt.reg import CAR

CLASSES, FEATURES, STEPS = 150, 6, 4
OPTIONS = [{}, {"absent": "hold", "debias": True}, {"surrogate": "released"}]


def shares(step, world):
    """Each rank's part of a global batch; the last ranks and steps have fewer samples."""
    generator = torch.Generator().manual_seed(step)
    sizes = [max(1, 12 - step - 3 * rank) for rank in range(world)]
    x = torch.randn(sum(sizes), FEATURES, generator=generator, dtype=torch.float64)
    y = torch.randint(0, CLASSES, (sum(sizes),), generator=generator) // 4  # classes repeat across ranks
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def soft(y):
    hard = nn.functional.one_hot(y, CLASSES).double()
    return 0.75 * hard + 0.25 * hard.roll(1, 1)


def train(options, share_of, wrap=lambda model: model):
    """Penalties, gradients and final buffers of a linear model under CAR alone."""
    torch.manual_seed(0)
    model = wrap(nn.Linear(FEATURES, CLASSES).double())
    car = CAR([1] * CLASSES, **options)
    record = []
    for step in range(STEPS):
        x, y = share_of(step)
        model.zero_grad()
        penalty = car(model(x), soft(y) if step % 2 else y)
        penalty.backward()
        record += [penalty.detach(), *(p.grad.clone() for p in model.parameters())]
    return record, car.state_dict()


def process(rank, world, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    torch.set_num_threads(1)
    result = [
        train(options, lambda step: shares(step, world)[rank], nn.parallel.DistributedDataParallel)
        for options in OPTIONS
    ]

    car = CAR([1, 1], max_skipped=2)  # non-finite on one rank is a skipped step on all
    logits = torch.full((2, 2), torch.nan if rank == 1 else 0.0, requires_grad=True)
    car(logits, torch.tensor([0, 1])).backward()
    skipped = [car.skipped_steps.item(), car.confusion.any().item(), logits.grad.any().item()]

    try:  # and so is a wrong label an error on all, not a hang on some
        car(torch.zeros(1, 2), torch.tensor([7 * rank]))
        said = ""
    except CarltError as error:
        said = str(error)
    torch.save((result, skipped, said), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_are_one_process_on_the_joined_batch(world, tmp_path):
    ranks = [subprocess.Popen([sys.executable, __file__, str(r), str(world), str(tmp_path)]) for r in range(world)]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0] * world
    finally:
        for rank in ranks:
            rank.kill()
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]

    def joined(step):
        x, y = zip(*shares(step, world), strict=True)
        return torch.cat(x), torch.cat(y)

    for index, options in enumerate(OPTIONS):
        expected, state = train(options, joined)
        for result, skipped, said in results:
            record, buffers = result[index]
            torch.testing.assert_close(record, expected, rtol=1e-6, atol=1e-12)
            torch.testing.assert_close(buffers, state, rtol=1e-6, atol=1e-12)
            assert skipped == [1, False, False]
            assert "[0, 2)" in said
        for name, value in results[0][0][index][1].items():
            assert all(torch.equal(value, result[index][1][name]) for result, _, _ in results), name


def test_one_process_gathers_itself():
    rows = torch.rand(3, 2, requires_grad=True)
    (joined,), amount, mine = gather_ragged([rows], torch.tensor(2.0))
    assert world_size() == 1
    assert torch.equal(joined, rows)
    assert not joined.requires_grad
    assert amount == 2
    assert torch.equal(joined[mine], rows)


if __name__ == "__main__":
    process(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
