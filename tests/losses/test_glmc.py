"""GLMC against loops; what it mixes, which parts learn when, and that its draws follow the step's seed."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from carlt.config.compose import compose_config
from carlt.errors import CarltError
from carlt.losses import GLMC
from carlt.losses.step import StepInput
from carlt.models import SmallCNN
from carlt.training.build import build_data

COUNTS = torch.tensor([50, 9, 2])
N, C, D = 4, 3, 6
LABELS, OTHERS = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 0, 0, 1])


@pytest.fixture
def loss() -> GLMC:
    torch.manual_seed(0)
    return GLMC(COUNTS, 6, dim=D)


@pytest.fixture
def network() -> SmallCNN:
    torch.manual_seed(1)
    return SmallCNN(C, in_channels=1, width=3)


@pytest.fixture
def parts() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, N, C), (2, N, C), (2, N, D))
    return tuple(torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)


TARGETS = 0.3 * one_hot(LABELS, C).double() + 0.7 * one_hot(OTHERS, C).double()


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


@pytest.mark.parametrize("progress", [0.0, 0.5, 0.9])
def test_against_loops(progress: float, loss: GLMC, parts: tuple[Tensor, ...]) -> None:
    loss.double().set_progress(progress)
    loss.class_weight.copy_(COUNTS.double() ** -1.2 / (COUNTS.double() ** -1.2).mean())  # in float64
    instance, balanced, projections = parts
    weights = [n**-1.2 for n in COUNTS.tolist()]
    weights = [w * C / sum(weights) for w in weights]
    early, total = 1 - progress**2, 0.0
    for v in range(2):
        for q in range(N):
            for logits, scale, weight in ((instance, early, [1.0] * C), (balanced, 1 - early, weights)):
                row = logits[v, q].tolist()
                whole = math.log(sum(map(math.exp, row)))
                total -= scale * sum(TARGETS[q, c].item() * weight[c] * (row[c] - whole) for c in range(C)) / N
            predicted = loss.predictor(projections[v, q]).tolist()
            total -= 4 * cosine(predicted, projections[1 - v, q].tolist()) / N
    assert loss(*parts, TARGETS).item() == pytest.approx(total, rel=1e-12)


def test_gradient_is_right(loss: GLMC, parts: tuple[Tensor, ...]) -> None:
    loss.double().set_progress(0.5)
    loss.consistency = 0.0
    assert torch.autograd.gradcheck(lambda *p: loss(*p, parts[2], TARGETS), parts[:2])
    assert all((g.abs().sum(2) > 1e-6).all() for g in torch.autograd.grad(loss(*parts, TARGETS), parts[:2]))
    # In place of SimSiam's constants the values themselves: numeric differences would see both.
    loss.consistency, constants = 4.0, parts[2].detach().clone()

    def consistency(projections: Tensor) -> Tensor:
        predicted = loss.predictor(projections)
        return -4 * sum(torch.cosine_similarity(predicted[v], constants[1 - v]).mean() for v in range(2))

    assert torch.autograd.gradcheck(consistency, parts[2])
    found, expected = (
        torch.autograd.grad(value, parts[2])[0] for value in (loss(*parts, TARGETS), consistency(parts[2]))
    )
    torch.testing.assert_close(found, expected)
    assert (found.abs().sum(2) > 1e-6).all()


def test_numbering_the_classes_otherwise_changes_nothing(loss: GLMC, parts: tuple[Tensor, ...]) -> None:
    order = torch.tensor([2, 0, 1])
    other = GLMC(COUNTS[order], 6, dim=D)
    other.predictor.load_state_dict(loss.predictor.state_dict())
    for part in (loss.double(), other.double()):
        part.set_progress(0.5)
    instance, balanced, projections = parts
    renamed = other(instance[..., order], balanced[..., order], projections, TARGETS[:, order])
    torch.testing.assert_close(renamed, loss(*parts, TARGETS))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_large_logits_stay_finite(dtype: torch.dtype, loss: GLMC, parts: tuple[Tensor, ...]) -> None:
    loss.to(dtype).set_progress(0.5)
    large = tuple((1e4 * part.detach()).to(dtype).requires_grad_() for part in parts)
    value = loss(*large, TARGETS.float())
    assert value.dtype == torch.float32
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, large))


def step() -> StepInput:
    images, views, others = torch.full((N, 1, 8, 8), 1.0), torch.full((1, N, 1, 8, 8), 2.0), torch.zeros(N, 1, 8, 8)
    return StepInput(images, LABELS, LABELS, views, second=(others, OTHERS))


def test_one_share_mixes_images_boxes_and_labels(loss: GLMC, network: SmallCNN) -> None:
    seen: list[Tensor] = []
    network.features.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    given = step()
    torch.manual_seed(3)
    learnt = loss.compute_loss(network, given)
    mixed, cut = seen  # a pass for each, as in the released code
    share = mixed[0, 0, 0, 0]
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share.expand_as(mixed))  # 1 where the batch is, 0 where the second is
    expected = share * one_hot(LABELS, C) + (1 - share) * one_hot(OTHERS, C)
    torch.testing.assert_close(learnt.targets, expected)
    assert set(cut.unique().tolist()) <= {0.0, 2.0}
    assert (cut == 0).float().mean() <= 1 - share + 1e-6  # cut off at the border
    assert (cut == cut[:1]).all()
    assert (given.contrast == 2).all()  # what was given is left as it was
    assert learnt.logits.shape == (N, C)
    torch.manual_seed(3)
    assert torch.equal(loss.compute_loss(network, given).loss, learnt.loss)


def test_boxes_have_the_shape_of_the_pictures(loss: GLMC, network: SmallCNN) -> None:
    seen: list[Tensor] = []
    network.features.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    torch.manual_seed(0)
    images, views, others = torch.full((N, 1, 8, 32), 1.0), torch.full((1, N, 1, 8, 32), 2.0), torch.zeros(N, 1, 8, 32)
    for _ in range(10):
        loss.compute_loss(network, StepInput(images, LABELS, LABELS, views, second=(others, OTHERS)))
    boxes = torch.stack([cut[0, 0] == 0 for cut in seen[1::2]])
    assert boxes.any(1).sum(1).max() > 8  # columns: more than a picture is high
    shares = [float(mixed[0, 0, 0, 0]) for mixed in seen[::2]]
    assert min(shares) < 0.3 < 0.7 < max(shares)  # uniform


def test_each_mixture_has_its_own_batch_statistics_unless_joint(network: SmallCNN) -> None:
    torch.manual_seed(0)
    apart, joint = GLMC(COUNTS, 6, dim=D), GLMC(COUNTS, 6, dim=D, joint=True)
    joint.load_state_dict(apart.state_dict())
    given = step()._replace(images=torch.randn(N, 1, 8, 8), contrast=5 * torch.randn(1, N, 1, 8, 8))
    for training in (True, False):
        network.train(training)
        torch.manual_seed(3)
        one = apart.compute_loss(network, given).loss
        torch.manual_seed(3)
        other = joint.compute_loss(network, given).loss
        assert torch.allclose(one, other) == (not training)


def test_the_tested_classifier_takes_over(loss: GLMC, network: SmallCNN) -> None:
    for progress, still in ((0.0, network.classifier), (0.5, None)):
        loss.set_progress(progress)
        for parameter in (*loss.parameters(), *network.parameters()):
            parameter.grad = None
        images = torch.randn(N, 1, 8, 8)
        given = step()._replace(images=images, contrast=images[None].roll(1, 3))
        loss.compute_loss(network, given).loss.backward()
        for module in (network.features, network.classifier, loss.head, loss.projector, loss.predictor):
            assert all(p.grad.any() == (module is not still) for p in module.parameters())


def test_a_checkpoint_holds_its_heads_alone(loss: GLMC) -> None:
    assert {key.split(".")[0] for key in loss.state_dict()} == {"head", "projector", "predictor"}


def test_mistakes(loss: GLMC, network: SmallCNN) -> None:
    for options in ({"power": -1.0}, {"consistency": float("nan")}, {"dim": 0}):
        (name,) = options
        with pytest.raises(CarltError, match=f"^{name}="):
            GLMC(COUNTS, 6, **options)
    with pytest.raises(CarltError, match=r"leave aug\.second as loss=glmc sets it"):
        loss.compute_loss(network, step()._replace(second=None))
    for aug in ("mixup", "cmo"):
        with pytest.raises(CarltError, match="mixes each batch with a second one by itself"):
            build_data(compose_config("train", ["loss=glmc", f"aug={aug}"]))
