"""What reg.CAR does with bad input, odd batches and other precisions."""

import copy
import itertools
import subprocess
import sys

import pytest
import torch
from torch import nn

from carlt.errors import CarltError
from carlt.reg import CAR

COUNTS = [40, 12, 7, 3, 2]


def batch(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(16, 5, generator=generator, dtype=dtype)
    return logits, torch.randint(0, 5, (16,), generator=generator)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("offset_rate", [0.0, 0.01])
def test_non_finite_logits_change_nothing_and_are_counted(bad, offset_rate):
    car = CAR(COUNTS, max_skipped=3, offset_rate=offset_rate)
    data = [batch(seed, torch.float32) for seed in range(6)]
    car(*data[0])
    state = copy.deepcopy(car.state_dict())
    for count, dtype in enumerate([torch.float32, torch.float16], start=1):
        logits = data[count][0].to(dtype)
        logits[3, 2] = bad
        logits.requires_grad_()
        penalty = car(logits, data[count][1])
        penalty.backward()
        assert penalty == 0
        assert not logits.grad.any()
        assert car.skipped_steps == car.skipped_in_a_row == count
    for name, value in car.state_dict().items():
        assert torch.equal(value, state[name]) or name.startswith("skipped"), name
    car(*data[4])
    assert car.skipped_in_a_row == 0
    for _ in range(2):
        car(logits, data[2][1])
    with pytest.raises(CarltError, match="3 steps in a row"):
        car(logits, data[2][1])


@pytest.mark.parametrize("label", [-1, 5, 2**40])
def test_label_out_of_range(label):
    car = CAR(COUNTS)
    with pytest.raises(CarltError, match=rf"{label}.*\[0, 5\)"):
        car(torch.randn(2, 5), torch.tensor([0, label]))
    assert not car.confusion.any()


@pytest.mark.parametrize("value", [-0.1, torch.nan, torch.inf])
def test_impossible_soft_label(value):
    with pytest.raises(CarltError, match="soft labels"):
        CAR(COUNTS)(torch.randn(1, 5), torch.tensor([[1.0, value, 0, 0, 0]]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"class_counts": [3, 0]}, "class 1: 0"),
        ({"class_counts": ["3", "4"]}, "expected a list of numbers of images"),
        ({"weight": -1}, "weight"),
        ({"weight": torch.nan}, "weight"),
        ({"beta": 1.0}, "beta"),
        ({"r0": -0.1}, "r0"),
        ({"margin": torch.inf}, "margin"),
        ({"surrogate": "papers"}, "'papers'"),
        ({"absent": "keep"}, "'keep'"),
        ({"gradient": "mean"}, "'mean'"),
        ({"max_skipped": 0}, "max_skipped"),
    ],
)
def test_impossible_arguments_are_named(arguments, said):
    with pytest.raises(CarltError, match=said):
        CAR(**{"class_counts": COUNTS, **arguments})


@pytest.mark.parametrize(
    ("logits", "targets", "said"),
    [
        (
            torch.randn(2, 4),
            torch.tensor([0, 1]),
            r"\(N, 5\), got torch.float32 \(2, 4\); a column for each of the 5 classes",
        ),
        (torch.randn(2, 5), [0, 1], r"targets: expected a tensor, got list; give torch.as_tensor\(targets\)"),
    ],
)
def test_a_batch_that_is_none_is_named(logits, targets, said):
    with pytest.raises(CarltError, match=said):
        CAR(COUNTS)(logits, targets)


@pytest.mark.parametrize("absent", ["decay", "hold"])
@pytest.mark.parametrize(("size", "num_classes"), list(itertools.product([1, 7], [2, 5, 200])))
def test_small_and_one_sided_batches(size, num_classes, absent):
    car = CAR([1] * num_classes, absent=absent)
    for seed in range(3):
        logits = torch.randn(size, num_classes, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        penalty = car(logits, torch.full((size,), num_classes - 1))
        penalty.backward()
        exact = 0.5 * torch.linalg.matrix_norm(car.row_weight[:, None] * car.confusion, 2)
        torch.testing.assert_close(penalty.detach(), exact)
        assert logits.grad.any()


def test_precision_follows_the_logits():
    logits, targets = batch()
    expected = CAR(COUNTS)(logits, targets)
    assert expected.dtype == torch.float64
    for dtype, autocast in itertools.product((torch.float32, torch.bfloat16, torch.float16), repeat=2):
        car = CAR(COUNTS)
        with torch.autocast("cpu", dtype=autocast, enabled=autocast != torch.float32):
            penalty = car(logits.to(dtype), targets)
        assert penalty.dtype == car.confusion.dtype == torch.float32
        torch.testing.assert_close(penalty.double(), CAR(COUNTS)(logits.to(dtype).double(), targets))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_module_leaves_it_in_float32(dtype):
    """As Lightning's bf16-true makes a whole module: nothing is rounded, and float64 has the exact constants."""
    options = {"gradient": "class", "offset_rate": 0.01, "class_margin": 3.0}
    car, other = CAR(COUNTS, **options), CAR(COUNTS, **options)
    for seed in range(3):
        car(*batch(seed, torch.float32)), other(*batch(seed, torch.float32))
    module = nn.ModuleDict({"linear": nn.Linear(2, 2), "car": car}).to(dtype)
    assert module["linear"].weight.dtype == dtype
    for name, buffer in other.named_buffers():
        assert torch.equal(car.get_buffer(name), buffer), name
    logits, targets = batch(3, torch.float32)
    assert torch.equal(car(logits, targets), other(logits, targets))
    assert car.adjust(logits.to(dtype)).dtype == torch.float32
    assert torch.equal(car.double().frequency, torch.tensor(COUNTS).double() / sum(COUNTS))


def test_its_state_is_float32_whatever_the_default_is():
    """Lightning's bf16-true makes bfloat16 the default while a network is built."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        car = CAR(COUNTS, offset_rate=0.01, gradient="class", class_margin=1.0)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {buffer.dtype for buffer in car.buffers()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_network_is_regularized_alike(backend):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5))
    compiled = torch.compile(copy.deepcopy(plain), backend=backend)
    one, other = CAR(COUNTS), CAR(COUNTS)
    for seed in range(3):
        images, targets = torch.randn(16, 8), batch(seed)[1]
        penalty, expected = other(compiled(images), targets), one(plain(images), targets)
        torch.testing.assert_close(penalty, expected)
        penalty.backward()
        expected.backward()
        for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
            assert theirs.grad.any()
            torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(other.confusion, one.confusion)


def test_gradients_of_small_batches_add_up():
    """Accumulation: a later batch moves the average in place, and spoils no graph that an earlier one left."""
    one, other = (torch.eye(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    car, late = CAR(COUNTS), CAR(COUNTS)
    for logits, targets in (batch(0), batch(1)):
        car(logits @ one, targets).backward()
    sum(late(logits @ other, targets) for logits, targets in (batch(0), batch(1))).backward()
    assert one.grad.any()
    torch.testing.assert_close(one.grad, other.grad)


def test_torch_is_the_only_dependency():
    """Of CAR; and what needs more says in one line what to install."""
    code = """
import sys, warnings
warnings.simplefilter("ignore")
class Absent:
    names = "hydra lightning numpy omegaconf rich torchmetrics torchvision yaml".split()
    names += "matplotlib scipy sklearn timm wandb".split()
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import importlib.util, runpy
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in Absent.names else found(name, package)
import torch, carlt, carlt.functional, carlt.reg, carlt.protocols
from carlt import CAR
assert carlt.reg.CAR is CAR
CAR([2, 1])(torch.randn(4, 2, requires_grad=True), torch.tensor([0, 1, 1, 0])).backward()
try:
    carlt.load_run
except ValueError as error:
    print(error)
for name in ("train", "evaluate", "prepare", "report"):
    sys.argv = [name, "--help"]
    try:
        runpy.run_module("carlt." + name, run_name="__main__")
    except SystemExit as end:
        assert end.code == 2
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    names = "hydra, lightning, numpy, omegaconf, rich, torchmetrics, torchvision, yaml"
    needs = f"needs {names}: pip install 'carlt[train]'"
    assert done.stdout == f"carlt.load_run {needs}\n"
    commands = ("train", "evaluate", "prepare", "report")
    assert done.stderr.splitlines() == [f"carlt.{name}: error: carlt.{name} {needs}" for name in commands]
