"""reg.CAR's cost on a CPU, and on a GPU, where a step must not wait for the device."""

import copy
import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from carlt.errors import CarltError
from carlt.functional import spectral
from carlt.reg import CAR
from carlt.reg.car import CHECK_EVERY

OPERATORS_AT_9E5B706, VIEWS_AT_9E5B706 = 148, 27


class Operators(TorchDispatchMode):
    """Counts the operators that run, the views among them, and those that bring numbers from a GPU to the host."""

    def __init__(self):
        super().__init__()
        self.count = self.views = self.reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.count += 1
        self.views += function.is_view
        moved = isinstance(result, torch.Tensor) and result.device.type == "cpu"
        self.reads += moved and any(isinstance(x, torch.Tensor) and x.device.type == "cuda" for x in args)
        return result


def batches(num_classes, steps, device="cpu", size=128, soft=False):
    """Batches of a half-trained network on long-tailed classes, as in experiments/benchmarks/car_step.py."""
    generator = torch.Generator().manual_seed(0)
    counts = (1000 * torch.arange(1, num_classes + 1) ** -0.8).ceil()
    centres = torch.randn(num_classes, 32, generator=generator)
    for _ in range(steps):
        targets = torch.multinomial(counts, size, True, generator=generator)
        noise = torch.randn(size, 32, generator=generator)
        logits = (centres[targets] + 1.5 * noise) @ centres.T / 4
        if soft:
            hard = torch.nn.functional.one_hot(targets, num_classes).float()
            targets = 0.7 * hard + 0.3 * hard.roll(1, 0)
        yield logits.to(device).requires_grad_(), targets.to(device)


def test_a_step_at_100_classes_takes_half_the_operators():
    car = CAR([1] * 100)
    *before, (logits, targets) = batches(100, 25)
    for batch in before:
        car(*batch).backward()
    with Operators() as operators:
        car(logits, targets).backward()
    if torch.__version__ >= "2.7":  # 2.6 makes three views more
        assert operators.count <= OPERATORS_AT_9E5B706 / 2
    assert operators.count - operators.views <= 0.58 * (OPERATORS_AT_9E5B706 - VIEWS_AT_9E5B706)


@pytest.mark.parametrize(
    ("num_classes", "options", "most"),
    [
        (100, {}, 0),
        (1024, {}, 0),
        (100, {"absent": "hold", "debias": True, "gradient": "class"}, 0),
        (100, {"surrogate": "released"}, 0),
        (100, {"offset_rate": 0.01, "class_margin": 12.0}, 0),
        (1025, {}, 1),
        (3000, {"absent": "hold"}, 1),
    ],
)
def test_a_gpu_is_not_waited_for(num_classes, options, most, pretended_gpu, monkeypatch):
    """With tensors that say they are on a GPU and hold no numbers: code that asks for one fails."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(
        spectral, "ritz", lambda numbers, eps: (numbers.chunk(2)[0], 0.0)
    )  # what the host does with the numbers
    car = CAR([1] * num_classes, **options)
    with FakeTensorMode():
        for name, buffer in car.named_buffers():
            setattr(car, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda"))
        logits = torch.randn(128, num_classes, device="cuda", requires_grad=True)
        targets = torch.zeros(128, dtype=torch.int64, device="cuda")
        with Operators() as operators:
            penalty = car(logits, targets)  # its backward is one product; autograd runs it with a real GPU alone
    assert penalty.shape == ()
    assert penalty.requires_grad
    assert operators.reads == most


@pytest.mark.parametrize(
    ("num_classes", "options"),
    [
        (20, {}),
        pytest.param(20, {"offset_rate": 0.01}, marks=pytest.mark.slow),
        (150, {"absent": "hold", "debias": True, "gradient": "class"}),
    ],
)
def test_compiled_in_one_graph_it_is_the_same(num_classes, options):
    torch._dynamo.reset()
    plain, other = CAR([1] * num_classes, **options), CAR([1] * num_classes, **options)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for step, (logits, targets) in enumerate(batches(num_classes, 5)):
        if step == 2:
            logits.data[3, 2] = torch.nan
        copied = logits.detach().clone().requires_grad_()
        expected, penalty = plain(logits, targets), compiled(copied, targets)
        torch.testing.assert_close(penalty, expected)
        expected.backward()
        penalty.backward()
        assert copied.grad.any() or step == 2
        torch.testing.assert_close(copied.grad, logits.grad, rtol=1e-3, atol=1e-6)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(other.get_buffer(name), buffer, msg=name, rtol=1e-4, atol=1e-5)
    assert other.skipped_steps == 1


def test_what_a_graph_cannot_say_is_said_by_check(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    car = CAR([1] * 20, max_skipped=2)
    ((logits, targets),) = batches(20, 1)
    car(logits, targets)
    car.check()
    state = copy.deepcopy(car.state_dict())
    penalty = car(logits, targets.where(torch.arange(128) != 5, 20))
    penalty.backward()
    assert penalty == 0
    assert not logits.grad.any()
    assert all(torch.equal(value, state[name]) for name, value in car.state_dict().items())
    with pytest.raises(CarltError, match=r"targets of 1 of the last batches.*\[0, 20\)"):
        car.check()
    car.check()  # said once
    for _ in range(2):
        car(torch.full_like(logits, torch.nan), targets)
    with pytest.raises(CarltError, match="2 steps in a row"):
        car.check()


@pytest.mark.parametrize("wrong", [[torch.nan] * 3, [-1.0, 1.0, 0.0]])
@pytest.mark.parametrize("gradient", ["batch", "class"])
def test_wrong_soft_labels_in_a_graph_give_no_gradient(wrong, gradient, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    car = CAR([5, 3, 1], gradient=gradient)
    logits = torch.randn(4, 3, requires_grad=True)
    penalty = car(logits, torch.tensor([wrong] * 4))
    penalty.backward()
    assert penalty == 0
    assert not logits.grad.any()
    assert not car.confusion.any()


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("num_classes", "soft", "most"), [(100, False, 0), (1000, False, 0), (100, True, 1), (3000, False, 1)]
)
def test_waits_on_a_gpu(num_classes, soft, most):
    car = CAR([1] * num_classes).cuda()
    warm, (logits, targets) = batches(num_classes, 2, "cuda", soft=soft)
    car(*warm).backward()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            car(logits, targets).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) <= most, [str(wait.message) for wait in waits]


@pytest.mark.gpu
@pytest.mark.parametrize("num_classes", [100, 1000])
def test_captured_in_a_cuda_graph_it_is_the_same(num_classes):
    plain, captured = CAR([1] * num_classes).cuda(), CAR([1] * num_classes).cuda()
    (logits, targets), *rest = batches(num_classes, 6, "cuda")
    logits, targets = logits.detach().clone().requires_grad_(), targets.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # loads kernels and makes logits.grad
        captured(logits, targets).backward()
    torch.cuda.current_stream().wait_stream(side)
    plain(logits.detach(), targets)
    graph = torch.cuda.CUDAGraph()
    logits.grad = None
    with torch.cuda.graph(graph):
        penalty = captured(logits, targets)
        penalty.backward()
    for inputs, labels in rest:
        logits.data.copy_(inputs.data)
        targets.copy_(labels)
        graph.replay()
        expected = plain(inputs, labels)
        expected.backward()
        torch.testing.assert_close(penalty, expected)
        torch.testing.assert_close(logits.grad, inputs.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("num_classes", [100, 1000, 3000])
def test_a_gpu_computes_what_a_cpu_computes(num_classes):
    on_cpu, on_gpu = CAR([1] * num_classes), CAR([1] * num_classes).cuda()
    for logits, targets in batches(num_classes, 5):
        copied = logits.detach().cuda().requires_grad_()
        expected, penalty = on_cpu(logits, targets), on_gpu(copied, targets.cuda())
        torch.testing.assert_close(penalty.cpu(), expected)
        expected.backward()
        penalty.backward()
        torch.testing.assert_close(copied.grad.cpu(), logits.grad, rtol=1e-2, atol=1e-6)


@pytest.mark.gpu
def test_a_gpu_says_what_is_wrong_at_the_next_check():
    car = CAR([1] * 20).cuda()
    ((logits, targets),) = batches(20, 1, "cuda")
    for _ in range(CHECK_EVERY - 1):
        car(logits, targets + 20)
    with pytest.raises(CarltError, match=f"of {CHECK_EVERY - 1} of the last batches"):
        car(logits, targets)


@pytest.mark.parametrize("options", [{"beta": 0.999}, {"beta": 0.9, "offset_rate": 0.01}])
def test_without_branches_the_default_type_rounds_nothing(options, monkeypatch):
    branching, branchless = CAR([1] * 20, **options), CAR([1] * 20, **options)
    drawn = list(batches(20, 30))
    for logits, targets in drawn:
        branching(logits, targets)
    try:
        torch.set_default_dtype(torch.bfloat16)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        for logits, targets in drawn:
            branchless(logits, targets)
    finally:
        torch.set_default_dtype(torch.float32)
    for name in ("confusion", "offset"):
        if getattr(branching, name) is not None:
            torch.testing.assert_close(getattr(branchless, name), getattr(branching, name), rtol=1e-5, atol=1e-7)
