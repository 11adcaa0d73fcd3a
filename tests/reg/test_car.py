"""reg.CAR against autograd through a full SVD, and its invariances."""

import copy
import itertools
import math

import pytest
import torch

from carlt.errors import CarltError
from carlt.functional import batch_confusion, relative_gap, spectral
from carlt.reg import CAR, NoRegularizer

COUNTS = [40, 12, 7, 3, 2]


def batches(num_classes, steps, size=16, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    prior = torch.arange(1, num_classes + 1).double() ** -1.0
    for _ in range(steps):
        targets = torch.multinomial(prior, size, replacement=True, generator=generator)
        yield 3 * torch.randn(size, num_classes, generator=generator, dtype=dtype), targets


class Oracle:
    """CAR by the book: dense C x C, full SVD, autograd through both."""

    def __init__(
        self,
        counts,
        beta=0.5,
        debias=False,
        absent="decay",
        gradient="batch",
        surrogate="paper",
        frequency_weight=True,
        offset_rate=0.0,
        class_margin=0.0,
    ):
        self.m = m = torch.tensor(counts).double() / sum(counts)
        self.weight = (m + 0.2) ** -0.5 if frequency_weight else torch.ones(len(m)).double()
        if surrogate == "released":
            self.weight /= self.weight.mean()
        self.beta, self.debias, self.absent, self.gradient, self.surrogate = beta, debias, absent, gradient, surrogate
        self.estimate = torch.zeros(len(counts), len(counts)).double()
        self.steps = torch.zeros(len(counts), 1).double()
        self.margin = 0.1 + class_margin * (m.min() / m).sqrt()
        self.offset, self.rate = torch.zeros(len(m)).double(), offset_rate * len(m)
        self.drawn, self.seen = 0, torch.zeros(len(counts), 1).double()

    def __call__(self, logits, targets):
        new, mass = batch_confusion(logits, targets, self.margin, self.surrogate)
        held = mass.clamp(max=1)[:, None]
        moved = held if self.absent == "hold" else torch.ones(len(mass), 1).double()
        self.steps += moved > 0
        gain = (1 - self.beta) / ((1 - self.beta**self.steps).clamp_min(1e-300) if self.debias else 1)
        first = (self.steps == 1) & (self.surrogate == "released")
        if self.gradient == "class":  # as large as if the class's mean of this batch were the whole row
            chance = (100 * (1 - (1 - self.m[:, None]) ** len(targets)) + self.seen) / (100 + self.drawn)
            self.drawn, self.seen = self.drawn + 1, self.seen + held
            new = new.detach() + (new - new.detach()) / (gain * chance)
        mixed = (1 - gain * moved) * self.estimate + gain * new
        mixed = torch.where(first, (1 - moved) * self.estimate + new.detach(), mixed)
        self.estimate = mixed.detach()
        u, sigma, v = torch.linalg.svd((self.weight[:, None] * self.estimate).detach())
        self.offset += self.rate * sigma[0] * (u[:, 0] ** 2 - v[0] ** 2)
        return 0.5 * torch.linalg.svdvals(self.weight[:, None] * mixed)[0]


OPTIONS = [
    {},
    {"beta": 0.9},
    {"debias": True},
    {"absent": "hold"},
    {"absent": "hold", "debias": True, "beta": 0.8},
    {"absent": "hold", "debias": True, "beta": 0.8, "gradient": "class"},
    {"gradient": "class"},
    {"surrogate": "released"},
    {"surrogate": "released", "beta": 0.9, "absent": "hold"},
    {"surrogate": "released", "gradient": "class"},
    {"absent": "hold", "beta": 0.9},
    {"frequency_weight": False},
    {"beta": 0.0},
    {"absent": "hold", "debias": True, "beta": 0.8, "offset_rate": 0.01},
    {"class_margin": 3.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("num_classes", [5, 140])
@pytest.mark.parametrize("soft", [False, True])
def test_every_step_is_the_oracle(options, num_classes, soft):
    counts = list(range(num_classes, 0, -1))
    car, oracle = CAR(counts, **options), Oracle(counts, **options)
    for step, (logits, targets) in enumerate(batches(num_classes, 6)):
        if soft:
            hard = torch.nn.functional.one_hot(targets, num_classes).double()
            targets = 0.6 * hard + 0.4 * hard.roll(1, 1)  # so that some classes have less than one image
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        penalty, expected = car(ours, targets), oracle(theirs, targets)
        torch.testing.assert_close(penalty, expected, rtol=1e-9, atol=0)
        torch.testing.assert_close(car.confusion, oracle.estimate, rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(car.adjust(ours), ours - oracle.offset, rtol=0, atol=1e-6)
        penalty.backward()
        if options.get("surrogate") == "released" and step == 0:
            assert not ours.grad.any()  # its first batch is a constant
            continue
        expected.backward()
        assert theirs.grad.abs().max() > 1e-8
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9)


def test_first_step_is_the_formula_by_loops():
    """Everything from logits to penalty once more, with no shared code: one class's row by hand."""
    z, y = [[2.0, 1.0, 0.0], [0.0, 0.5, 1.0]], [0, 0]
    row = [0.0, 0.0, 0.0]
    for q in z:
        total = math.exp(q[1]) + math.exp(q[2])
        for i in (1, 2):
            row[i] += 0.5 * math.exp(q[i]) / total / (1 + math.exp(-(0.1 + q[i] - q[0])))
    weight = (6 / 10 + 0.2) ** -0.5
    expected = 0.5 * weight * 0.5 * math.hypot(*row)  # penalty weight, lambda_0, 1 - beta, norm of the only row
    penalty = CAR([6, 3, 1])(torch.tensor(z, dtype=torch.float64), torch.tensor(y))
    assert penalty.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("options", OPTIONS[:5], ids=str)
@pytest.mark.parametrize("soft", [False, True])
def test_gradcheck(options, soft):
    car = CAR(COUNTS, **options)
    for batch in batches(5, 3):
        car(*batch)
    ((logits, targets),) = batches(5, 1, size=6, seed=1)
    targets = torch.softmax(torch.randn(6, 5, dtype=torch.float64), 1) if soft else targets
    assert torch.autograd.gradcheck(lambda z: copy.deepcopy(car)(z, targets), logits.requires_grad_(), atol=1e-7)


def test_the_gradient_by_class_is_unbiased():
    """Its mean over all batches that can be drawn is the gradient of || Lambda C ||_2, C of the whole set."""
    labels, size = torch.tensor([0, 0, 0, 0, 1, 1, 2]), 2
    counts = labels.bincount()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(labels), 3, generator=generator, dtype=torch.float64).requires_grad_()
    whole, _ = batch_confusion(logits, labels)
    norm = torch.linalg.svdvals((counts / counts.sum() + 0.2)[:, None] ** -0.5 * whole)[0]
    (expected,) = torch.autograd.grad(norm, logits)
    draws = list(itertools.product(range(len(labels)), repeat=size))
    means = {}
    for gradient in ("batch", "class"):
        mean = torch.zeros_like(expected)
        for draw in draws:
            car = CAR(counts, weight=1.0, beta=1 - 1e-9, absent="hold", gradient=gradient).double()
            car.confusion.copy_(whole.detach())
            mean += torch.autograd.grad(car(logits[list(draw)], labels[list(draw)]), logits)[0] / len(draws)
        means[gradient] = mean
    torch.testing.assert_close(means["class"], expected, rtol=1e-6, atol=1e-9)
    chance = (1 - (1 - counts / len(labels)) ** size)[labels, None].double()  # and the paper's is that times this:
    torch.testing.assert_close(means["batch"] / 1e-9, expected * chance, rtol=1e-5, atol=1e-7)


def test_the_gradient_by_class_follows_the_sampler():
    """Classes drawn alike are soon pushed as the norm asks, though one has a hundred times the images."""
    car = CAR([1000, 10, 10], weight=1.0, absent="hold", gradient="class")
    pushed = torch.zeros(3)
    for step in range(3000):
        logits = torch.zeros(1, 3, requires_grad=True)
        (gradient,) = torch.autograd.grad(car(logits, torch.tensor([step % 3])), logits)
        pushed[step % 3] = gradient[0, step % 3].abs()
    u, _, v = torch.linalg.svd(car.row_weight[:, None] * car.confusion)
    asked = car.row_weight * u[:, 0].abs() * (v[0].abs().sum() - v[0].abs())  # by both rivals alike
    torch.testing.assert_close(pushed / pushed.sum(), asked / asked.sum(), rtol=0.12, atol=0)


def test_many_classes_are_the_oracle_too(monkeypatch):
    """Above LARGE classes rows are left out and zeroed when they have faded; the result stays."""
    monkeypatch.setattr(spectral, "LARGE", 100)
    monkeypatch.setitem(spectral.CHUNK_BYTES, "cpu", 30_000)
    counts = list(range(200, 0, -1))
    for options in ({}, {"absent": "hold"}):
        car, oracle = CAR(counts, **options), Oracle(counts, **options)
        chosen = []
        active = spectral.active_rows
        monkeypatch.setattr(spectral, "active_rows", lambda *a, **k: chosen.append(active(*a, **k)) or chosen[-1])  # noqa: B023
        for logits, targets in batches(200, 30, size=4, dtype=torch.float32):
            ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
            penalty, expected = car(ours, targets), oracle(theirs, targets)
            penalty.backward()
            expected.backward()
            assert abs(penalty.item() / expected.item() - 1) < 1e-5
            gap = torch.linalg.vector_norm(ours.grad - theirs.grad) / torch.linalg.vector_norm(theirs.grad)
            assert gap < 1e-3
            torch.testing.assert_close(car.confusion.double(), oracle.estimate, rtol=1e-4, atol=1e-7)
        monkeypatch.setattr(spectral, "active_rows", active)
        if not options:
            assert len(chosen[-1]) < 60
            assert (car.row_norm == 0).any()
        torch.testing.assert_close(car.row_norm, torch.linalg.vector_norm(car.confusion, dim=1), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("options", [{"beta": 0.0}, {"beta": 1e-3, "absent": "hold"}])
def test_many_classes_whose_confusion_ends_at_once(options, monkeypatch):
    """What the norm was before limits the rows that count by no more than the estimate has kept of it."""
    monkeypatch.setattr(spectral, "LARGE", 4)
    car, labels = CAR(COUNTS, **options), torch.arange(4)  # the last class is absent
    for certainty in (-8, 8, 16):
        car(certainty * torch.eye(5)[:4], labels)
        torch.testing.assert_close(
            car.spectral_norm, torch.linalg.matrix_norm(car.row_weight[:, None] * car.confusion, 2), rtol=1e-4, atol=0
        )


def test_classes_may_be_renamed():
    order = torch.tensor([3, 0, 4, 1, 2])
    plain, renamed = CAR(COUNTS), CAR([COUNTS[c] for c in order])
    place = order.argsort()
    for logits, targets in batches(5, 4):
        a, b = logits.clone().requires_grad_(), logits[:, order].requires_grad_()
        p, q = plain(a, targets), renamed(b, place[targets])
        p.backward()
        q.backward()
        torch.testing.assert_close(p, q)
        torch.testing.assert_close(a.grad[:, order], b.grad)
    torch.testing.assert_close(plain.confusion[order][:, order], renamed.confusion)


def test_order_within_the_batch_does_not_matter():
    one, other = CAR(COUNTS), CAR(COUNTS)
    for logits, targets in batches(5, 4):
        order = torch.randperm(len(targets))
        torch.testing.assert_close(one(logits, targets), other(logits[order], targets[order]))
    torch.testing.assert_close(one.confusion, other.confusion)


def test_soft_labels_that_are_hard_are_hard():
    hard, soft = CAR(COUNTS), CAR(COUNTS)
    for logits, targets in batches(5, 4):
        a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        p, q = hard(a, targets), soft(b, torch.nn.functional.one_hot(targets, 5).double())
        p.backward()
        q.backward()
        torch.testing.assert_close(p, q)
        torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(hard.confusion, soft.confusion)


@pytest.mark.parametrize(
    "options", [{}, {"absent": "hold"}, {"gradient": "class"}, {"absent": "hold", "debias": True, "gradient": "class"}]
)
def test_a_trace_of_a_class_in_soft_labels_changes_little(options):
    """Of label smoothing by next to nothing the penalty and its gradient are those of the hard labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 50, (64,), generator=generator)
    hard = torch.nn.functional.one_hot(labels, 100).double()
    found = {}
    for trace in (0.0, 1e-9):
        logits = (6 * hard + torch.randn(64, 100, generator=torch.Generator().manual_seed(1))).requires_grad_()
        penalty = CAR([1] * 100, **options)(logits, (1 - trace) * hard + trace / 100)
        found[trace] = penalty.detach(), *torch.autograd.grad(penalty, logits)
    assert found[0.0][1].any()
    torch.testing.assert_close(found[1e-9], found[0.0], rtol=1e-3, atol=1e-7)


def test_debiased_it_is_the_mean_over_the_weight_that_batches_have_in_it():
    car, mean = CAR(COUNTS, beta=0.8, debias=True), torch.zeros(5, 5, dtype=torch.float64)
    for step, (logits, targets) in enumerate(batches(5, 4), start=1):
        car(logits, targets)
        mean = 0.8 * mean + 0.2 * batch_confusion(logits, targets)[0]
        torch.testing.assert_close(car.confusion, mean / (1 - 0.8**step), rtol=1e-12, atol=1e-15)


def test_a_second_derivative_is_refused():
    ((logits, targets),) = batches(5, 1)
    penalty = CAR(COUNTS)(logits.requires_grad_(), targets)
    with pytest.raises(CarltError, match="no second derivative"):
        torch.autograd.grad(penalty, logits, create_graph=True)


@pytest.mark.parametrize("reg", [CAR(COUNTS, weight=0.0), NoRegularizer()])
def test_no_weight_is_the_baseline(reg):
    ((logits, targets),) = batches(5, 1)
    logits.requires_grad_()
    penalty = reg(logits, targets)
    penalty.backward()
    assert penalty == 0
    assert not logits.grad.any()
    assert not NoRegularizer()(torch.full((2, 3), torch.inf), targets).isnan()


def test_history_is_a_constant_and_batches_do_not_chain():
    car = CAR(COUNTS)
    first, second = (logits.requires_grad_() for logits, _ in batches(5, 2))
    targets = torch.zeros(16, dtype=torch.int64)
    car(first, targets)
    car(second, targets).backward()
    assert first.grad is None
    assert second.grad.any()
    assert not any(buffer.requires_grad for buffer in car.buffers())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_resumed_is_uninterrupted(options, tmp_path):
    data = list(batches(140, 8, dtype=torch.float32))
    through, before = CAR([1] * 140, **options), CAR([1] * 140, **options)
    expected = [through(*batch).item() for batch in data]
    for batch in data[:3]:
        before(*batch)
    torch.save(before.state_dict(), tmp_path / "car.pt")
    after = CAR([1] * 140, **options)
    after.load_state_dict(torch.load(tmp_path / "car.pt"))
    assert [after(*batch).item() for batch in data[3:]] == expected[3:]
    for name, value in through.state_dict().items():
        assert torch.equal(value, after.state_dict()[name]), name


def test_resumed_with_many_classes_is_uninterrupted(monkeypatch):
    """Above LARGE classes the norms of the rows are part of the state."""
    monkeypatch.setattr(spectral, "LARGE", 100)
    data = list(batches(140, 6, dtype=torch.float32))
    through, before, after = (CAR([1] * 140) for _ in range(3))
    expected = [through(*batch).item() for batch in data]
    for batch in data[:3]:
        before(*batch)
    after.load_state_dict(before.state_dict())
    assert [after(*batch).item() for batch in data[3:]] == expected[3:]


def test_a_checkpoint_knows_of_skipped_steps_and_of_the_norm():
    """A training that has diverged is stopped after ``max_skipped`` steps, however often it is resumed."""
    car, other = CAR(COUNTS, max_skipped=3), CAR(COUNTS, max_skipped=3)
    ((logits, targets),) = batches(5, 1, dtype=torch.float32)
    penalty = car(logits, targets)
    for _ in range(2):
        car(logits * torch.nan, targets)
    other.load_state_dict(car.state_dict())
    assert other.skipped_steps == 2
    assert other.eval()(logits, targets) == penalty
    with pytest.raises(CarltError, match="3 steps in a row"):
        other.train()(logits * torch.nan, targets)


def test_offsets_descend_along_the_gradient_of_the_norm():
    """Where a contribution grows as exp(z_i - z_y), b moves by -offset_rate C d || Lambda C^_t ||_2 / d b."""
    car = CAR(COUNTS, offset_rate=0.01)
    before = torch.zeros(5)
    for logits, labels in batches(5, 3):
        car(logits, labels)
        b = torch.zeros(5, dtype=torch.float64, requires_grad=True)
        shifted = car.row_weight[:, None] * car.confusion * torch.exp(b[None] - b[:, None])  # b is added to z
        (gradient,) = torch.autograd.grad(torch.linalg.svdvals(shifted)[0], b)
        torch.testing.assert_close(car.offset - before, -0.01 * 5 * gradient, rtol=1e-6, atol=1e-9)
        before = car.offset.clone()


def test_offsets_find_the_class_prior():
    """Of logits that are right for long-tailed data they take the prior off, though nobody names it."""
    counts = torch.tensor([800, 300, 100, 40, 15])
    generator = torch.Generator().manual_seed(0)
    car = CAR(counts, weight=0.0, absent="hold", debias=True, beta=0.9, frequency_weight=False, offset_rate=0.01)
    for _ in range(1500):
        labels = torch.multinomial(counts.double(), 64, replacement=True, generator=generator)
        evidence = 1.5 * torch.nn.functional.one_hot(labels, 5) + torch.randn(64, 5, generator=generator)
        logits = 1.5 * evidence + (counts / counts.sum()).log()  # log of the posterior, up to a constant
        car(logits + car.offset, labels)  # as if a network had followed the offsets
    found, log_prior = car.offset - car.offset.mean(), (counts / counts.sum()).log()
    torch.testing.assert_close(found, log_prior.mean() - log_prior, rtol=0, atol=0.5)


def test_eval_leaves_every_buffer_alone():
    car = CAR(COUNTS)
    data = list(batches(5, 3))
    penalty = car(*data[0])
    state = copy.deepcopy(car.state_dict())
    car.eval()
    assert car(*data[1]).item() == penalty.item()  # the estimate as it stands
    for name, value in car.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_a_class_margin_is_the_same_as_a_smaller_true_logit():
    counts = [100, 25, 4]
    logits, labels = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])
    less = torch.tensor([3 * 0.2, 3 * 0.4, 3 * 1.0], dtype=torch.float64)  # 3 sqrt(4 / n)
    with_margin, without = CAR(counts, class_margin=3.0).double(), CAR(counts).double()
    shifted = logits - less * torch.nn.functional.one_hot(labels, 3)
    torch.testing.assert_close(with_margin(logits, labels), without(shifted, labels))
    truth = [car.true_confusion([(z, labels)]) for car, z in ((with_margin, logits), (without, shifted))]
    torch.testing.assert_close(*truth)


@pytest.mark.parametrize("surrogate", ["paper", "released"])
def test_true_confusion_is_that_of_the_whole_set(surrogate):
    car = CAR(COUNTS, margin=0.3, surrogate=surrogate)
    data = list(batches(5, 4))
    truth = car.true_confusion(data)
    whole = batch_confusion(torch.cat([x for x, _ in data]), torch.cat([y for _, y in data]), 0.3, surrogate)[0]
    torch.testing.assert_close(truth, whole.float())
    car(*data[0])
    assert 0 < relative_gap(car.confusion, truth) < 2


@pytest.mark.parametrize("k", [2, 3])
def test_under_gradient_accumulation_each_micro_batch_enters_by_itself(k):
    """Lightning calls the penalty for each of k micro-batches and divides its gradient by k."""
    beta = 0.5
    car = CAR(COUNTS, beta=beta ** (1 / k)).double()
    before, *micro = batches(len(COUNTS), k + 1)
    car(*before)
    expected, start = car.confusion.clone(), car.confusion.clone()
    found, wanted = [], []
    for logits, targets in micro:
        logits.requires_grad_()
        (car(logits, targets) / k).backward()
        live, _ = batch_confusion(logits, targets, 0.1)
        mean = beta ** (1 / k) * expected + (1 - beta ** (1 / k)) * live
        norm = 0.5 * torch.linalg.svdvals(car.exact["row_weight"][:, None] * mean)[0] / k
        wanted.append(torch.autograd.grad(norm, logits)[0])
        found.append(logits.grad)
        expected = mean.detach()
    torch.testing.assert_close(car.confusion, expected)
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted), rtol=1e-5, atol=1e-9)
    # The memory is that of one batch per optimizer step: the history has the weight beta after all of them.
    alone = CAR(COUNTS, beta=beta ** (1 / k)).double()
    for logits, targets in micro:
        alone(logits.detach(), targets)
    torch.testing.assert_close(car.confusion - alone.confusion, beta * start)


def test_its_repr_names_its_values():
    shown = repr(CAR([9, 4, 2], weight=0.3, absent="hold"))
    assert shown.startswith("CAR(classes=3, weight=0.3, ")
    names = ("beta=0.5", "r0=0.2", "margin=0.1", "surrogate='paper'", "absent='hold'", "frequency_weight=True")
    assert all(name in shown for name in names)
