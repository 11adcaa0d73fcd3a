"""Regularizers and metrics on 2 and 4 processes are those on one with the joined batch."""

import dataclasses
import importlib
import inspect
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import yaml
from torch import distributed as dist
from torch import multiprocessing, nn

from carlt.distributed import gather_ragged, world_size
from carlt.errors import CarltError
from carlt.metrics import ConfusionCounts
from carlt.models.class_means import RunningClassMeans
from carlt.reg import CAR, ConfidencePenalty, SumOfRegularizers

CLASSES, FEATURES, STEPS = 150, 6, 4
OPTIONS = [{}, {"absent": "hold", "debias": True}, {"surrogate": "released"}]
CONF = Path(__file__).parents[1] / "conf" / "reg"
FILES = sorted(path.stem for path in CONF.glob("*.yaml"))


def regularizer(name):
    """The regularizer of a file of conf/reg."""
    if name == "several":
        return SumOfRegularizers(car=CAR([1] * CLASSES), penalty=ConfidencePenalty())
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    module, _, kind = values.pop("_target_").rpartition(".")
    kind = getattr(importlib.import_module(module), kind)
    if "class_counts" in inspect.signature(kind).parameters:
        values["class_counts"] = [1] * CLASSES
    return kind(**values)


def shares(step, world, fewer=3):
    """Each rank's part of a global batch; later steps have fewer samples, and by ``fewer`` the later ranks."""
    generator = torch.Generator().manual_seed(step)
    sizes = [max(1, 12 - step - fewer * rank) for rank in range(world)]
    x = torch.randn(sum(sizes), FEATURES, generator=generator, dtype=torch.float64)
    y = torch.randint(0, CLASSES, (sum(sizes),), generator=generator) // 4  # classes repeat across ranks
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def soft(y):
    hard = nn.functional.one_hot(y, CLASSES).double()
    return 0.75 * hard + 0.25 * hard.roll(1, 1)


def labelled(step, rank, world, fewer=3):
    """A rank's part with hard labels at even steps and soft ones at odd ones; at the last, the first rank has hard
    ones beside soft ones."""
    x, y = shares(step, world, fewer)[rank]
    return x, soft(y) if step % 2 and (rank or step < STEPS - 1) else y


def train(car, share_of, wrap=lambda model: model):
    """Penalties, gradients and final buffers of a linear model under a regularizer alone."""
    torch.manual_seed(0)
    model = wrap(nn.Linear(FEATURES, CLASSES).double())
    record = []
    for step in range(STEPS):
        x, y = share_of(step)
        model.zero_grad()
        penalty = car(model(x), y)
        penalty.backward()
        record += [penalty.detach(), *(p.grad.clone() for p in model.parameters())]
    return record, car.state_dict()


def scored(share):
    """Logits (N, C) and labels of a share."""
    x, y = share
    return x @ torch.linspace(-1, 1, FEATURES * CLASSES).double().sin().view(FEATURES, CLASSES), y


def process(rank, world, folder):
    store, limit = f"file://{folder}/store", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=limit)
    torch.set_num_threads(1)
    wrap = nn.parallel.DistributedDataParallel
    result = [
        train(CAR([1] * CLASSES, **options), lambda step: labelled(step, rank, world), wrap) for options in OPTIONS
    ]
    files = [train(regularizer(name), lambda step: labelled(step, rank, world, 0), wrap) for name in FILES]

    counts = ConfusionCounts(CLASSES)
    for step in range(STEPS):
        counts.update(*scored(shares(step, world)[rank]))
    counted = dataclasses.asdict(counts.evaluation())
    means = RunningClassMeans(CLASSES, FEATURES).double()
    for step in range(STEPS):
        means.update(*shares(step, world)[rank])

    car = CAR([1, 1], max_skipped=2)  # non-finite on one rank is a skipped step on all
    logits = torch.full((2, 2), torch.nan if rank == 1 else 0.0, requires_grad=True)
    car(logits, torch.tensor([0, 1])).backward()
    skipped = [car.skipped_steps.item(), car.confusion.any().item(), logits.grad.any().item()]

    try:  # and so is a wrong label an error on all, not a hang on some
        car(torch.zeros(1, 2), torch.tensor([7 * rank]))
        said = ""
    except CarltError as error:
        said = str(error)
    rows = [torch.full((rank, 2, 3), rank), torch.full((rank,), rank / 4), torch.ones(rank, 1, dtype=torch.bool)]
    joined, amount, mine = gather_ragged([rows[0].mT, *rows[1:]], torch.tensor(rank + 0.5))
    together = *joined, amount, joined[1][mine]
    torch.save((result, skipped, said, files, counted, means.means, together), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_are_one_process_on_the_joined_batch(world, tmp_path):
    # Forked processes need not import torch again, which takes longer than the test.
    multiprocessing.start_processes(process, (world, tmp_path), world, start_method="fork")
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]

    def joined(step, fewer=3):
        x, y = zip(*(labelled(step, rank, world, fewer) for rank in range(world)), strict=True)
        if any(part.is_floating_point() for part in y):
            y = [part if part.is_floating_point() else nn.functional.one_hot(part, CLASSES).double() for part in y]
        return torch.cat(x), torch.cat(y)

    for index, options in enumerate(OPTIONS):
        expected, state = train(CAR([1] * CLASSES, **options), joined)
        for result, skipped, said, *_ in results:
            record, buffers = result[index]
            torch.testing.assert_close(record, expected, rtol=1e-6, atol=1e-12)
            torch.testing.assert_close(buffers, state, rtol=1e-6, atol=1e-12)
            assert skipped == [1, False, False]
            assert "[0, 2)" in said
        for name, value in results[0][0][index][1].items():
            assert all(torch.equal(value, result[0][index][1][name]) for result in results), name

    for index, name in enumerate(FILES):
        expected, state = train(regularizer(name), lambda step: joined(step, 0))
        found = [result[3][index] for result in results]
        mean = [torch.stack(values).mean(0) for values in zip(*(record for record, _ in found), strict=True)]
        torch.testing.assert_close(mean, expected, rtol=1e-6, atol=1e-12)
        for _, buffers in found:
            torch.testing.assert_close(buffers, state, rtol=1e-6, atol=1e-12)

    counts, means = ConfusionCounts(CLASSES), RunningClassMeans(CLASSES, FEATURES).double()
    for step in range(STEPS):
        for share in shares(step, world):
            counts.update(*scored(share))
        means.update(*map(torch.cat, zip(*shares(step, world), strict=True)))
    ranks = torch.arange(world).repeat_interleave(torch.arange(world))  # rank r gave r rows, the first none
    for rank, (*_, counted, found_means, together) in enumerate(results):
        torch.testing.assert_close(counted, dataclasses.asdict(counts.evaluation()))
        torch.testing.assert_close(found_means, means.means, equal_nan=True)
        integers, quarters, flags, amount, own_quarters = together
        assert torch.equal(integers, ranks[:, None, None].expand(-1, 3, 2))
        assert torch.equal(quarters, ranks / 4)
        assert torch.equal(flags, torch.ones(len(ranks), 1, dtype=torch.bool))
        assert amount == sum(range(world)) + world / 2
        assert own_quarters.tolist() == [rank / 4] * rank


def test_one_process_gathers_itself():
    rows = torch.rand(3, 2, requires_grad=True)
    (joined,), amount, mine = gather_ragged([rows], torch.tensor(2.0))
    assert world_size() == 1
    assert torch.equal(joined, rows)
    assert not joined.requires_grad
    assert amount == 2
    assert torch.equal(joined[mine], rows)
