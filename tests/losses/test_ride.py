"""RIDE against its formula written as loops; its experts share what they should and nothing else."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from carlt.errors import CarltError
from carlt.losses import LDAM, RIDE
from carlt.losses.step import StepInput
from carlt.models import CifarResNet, SmallCNN, timm_model
from carlt.models.classifier import extract_features, get_classifier

COUNTS = [500, 40, 7, 2]
N, E, C = 5, 3, len(COUNTS)
LABELS = torch.tensor([0, 1, 2, 3, 3])
NETWORKS = {
    "SmallCNN": lambda **options: SmallCNN(C, width=4, **options),
    "CifarResNet": lambda **options: CifarResNet(C, 14, width=4, **options),
    "ResNet": lambda **options: timm_model("test_resnet", C, image_size=64, **options),
}


def awake(network: nn.Module) -> nn.Module:
    """timm's residual branches start at zero, and nothing in them has a gradient."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    return network


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, E, C, generator=generator, dtype=torch.float64).requires_grad_()


def ride(progress: float = 0.0, **options: Any) -> RIDE:
    loss = RIDE(COUNTS, **options)
    loss.set_progress(progress)
    return loss


def softmax(z: list[float]) -> list[float]:
    return [math.exp(value) / sum(map(math.exp, z)) for value in z]


SHARES = {False: one_hot(LABELS, C).double(), True: 0.3 * one_hot(LABELS, C) + 0.7 * one_hot(LABELS.roll(1), C)}


def loops(
    logits: Tensor, mean: Tensor, late: bool, soft: bool = False, diversity: float = -0.45, scale: float = 30.0
) -> float:
    """The definition at the released defaults; ``mean`` is what experts are compared with."""
    prior = [n / sum(COUNTS) for n in COUNTS]
    temperature = [1 - 0.05 + 0.05 * C * p for p in prior]
    temperature = [t / max(temperature) if late else 1.0 for t in temperature]
    weights = [(1 - 0.9999) / (1 - 0.9999**n) if late else 1.0 for n in COUNTS]
    total = 0.0
    for e in range(E):
        lost, weight = 0.0, 0.0
        for q, shares in enumerate(SHARES[soft].tolist()):
            for y, share in enumerate(shares):
                margin = 0.5 * (2 / COUNTS[y]) ** 0.25
                z = [value - scale * margin * (c == y) for c, value in enumerate(logits[q, e].tolist())]
                lost -= share * weights[y] * math.log(softmax(z)[y])
                weight += share * weights[y]
        total += lost / weight
        for q in range(N):
            p = softmax([v / t for v, t in zip(mean[q].tolist(), temperature, strict=True)])
            r = softmax([v / t for v, t in zip(logits[q, e].tolist(), temperature, strict=True)])
            divergence = sum(a * math.log(a / b) for a, b in zip(p, r, strict=True))
            total += diversity * (sum(temperature) / C) ** 2 * divergence / N
    return total


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_against_loops(late: bool, soft: bool, logits: Tensor) -> None:
    value = ride(0.8 if late else 0.795)(logits, SHARES[True].double() if soft else LABELS)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(loops(logits.detach(), logits.detach().mean(1), late, soft), rel=1e-6)


@pytest.mark.parametrize("late", [False, True])
def test_gradient_takes_the_mean_for_a_constant(late: bool, logits: Tensor) -> None:
    # The constants of the data are float32: the definition's numbers differ from ours by 1e-7 of themselves.
    found = torch.autograd.grad(ride(0.9 * late)(logits, LABELS), logits)[0]
    mean, step = logits.detach().mean(1), 1e-5
    for place in torch.cartesian_prod(torch.arange(N), torch.arange(E), torch.arange(C)).tolist():
        change = torch.zeros(N, E, C, dtype=torch.float64)
        change[tuple(place)] = step
        up, down = (loops(logits.detach() + sign * change, mean, late) for sign in (1, -1))
        assert found[tuple(place)].item() == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-7)
    assert (found.abs().sum(2) > 1e-6).all()


def test_without_diversity_it_is_the_sum_of_ldams(logits: Tensor) -> None:
    loss = ride(diversity=0.0)
    expected = sum(LDAM(COUNTS)(z, LABELS) for z in logits.unbind(1))
    torch.testing.assert_close(loss(logits, LABELS), expected)
    assert torch.autograd.gradcheck(lambda z: loss(z, LABELS), logits)


def test_diversity_below_zero_rewards_experts_that_differ(logits: Tensor) -> None:
    def gain(diversity: float, z: Tensor) -> Tensor:
        return ride(diversity=diversity)(z, LABELS) - ride(diversity=0.0)(z, LABELS)

    assert gain(-0.45, logits) < 0 < gain(0.45, logits)
    alike = logits[:, :1].expand(N, E, C)
    assert gain(-0.45, alike).abs() < 1e-12


def test_soft_labels_and_other_numberings(logits: Tensor) -> None:
    for loss in (ride(), ride(0.9)):
        torch.testing.assert_close(loss(logits, one_hot(LABELS, C).double()), loss(logits, LABELS))
    order = torch.tensor([2, 0, 3, 1])
    other = RIDE(torch.tensor(COUNTS)[order])
    other.set_progress(0.9)
    renumbered = other(logits[..., order], order.argsort()[LABELS])
    torch.testing.assert_close(renumbered, ride(0.9)(logits, LABELS))
    experts = torch.tensor([1, 2, 0])
    torch.testing.assert_close(ride(0.9)(logits[:, experts], LABELS), ride(0.9)(logits, LABELS))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [None, 30.0])
def test_a_network_of_experts(name: str, scale: float | None) -> None:
    torch.manual_seed(0)
    network, images = awake(NETWORKS[name](experts=E, cosine_scale=scale)).eval(), torch.randn(N, 3, 64, 64)
    learnt = RIDE(COUNTS).compute_loss(network, StepInput(images, LABELS, LABELS))
    torch.testing.assert_close(learnt.logits, network(images))  # what is tested is the mean that is trained
    assert learnt.targets is LABELS
    head, seen = get_classifier(network), extract_features(network, images)
    assert head.in_features == seen.shape[1] == head.weight.shape[1]
    each = head.each(seen)
    assert each.shape == (N, E, C)
    assert not any(torch.allclose(each[:, e], each[:, e - 1]) for e in range(E))
    learnt.loss.backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_an_expert_s_gradient_stays_in_its_own_part(name: str) -> None:
    torch.manual_seed(0)
    network = awake(NETWORKS[name](experts=E))
    get_classifier(network).each(extract_features(network, torch.randn(N, 3, 64, 64)))[:, 1].square().sum().backward()
    moved = {key for key, parameter in network.named_parameters() if parameter.grad.any()}
    single = {key for key, _ in NETWORKS[name]().named_parameters()}
    total = len(list(network.named_parameters()))
    private = (total - len(single)) // (E - 1)  # parameters that each further expert brings
    assert len(moved) == len(single)
    assert private > 2  # more than a classifier


def test_one_expert_is_the_network_as_it_was() -> None:
    for network in NETWORKS.values():
        torch.manual_seed(0)
        one = network(experts=1).state_dict()
        torch.manual_seed(0)
        plain = network().state_dict()
        assert one.keys() == plain.keys()
        assert all(torch.equal(one[key], plain[key]) for key in plain)


def test_experts_may_be_narrower() -> None:
    network = CifarResNet(100, 32, experts=E, expert_width=0.75, cosine_scale=30.0)
    assert sum(p.numel() for p in network.parameters()) == 783_856  # RIDE's 0.784 M
    for name, build in NETWORKS.items():
        whole, narrow = build(experts=E), build(experts=E, expert_width=0.75)
        assert get_classifier(narrow).in_features == 0.75 * get_classifier(whole).in_features, name
        assert narrow(torch.rand(2, 3, 64, 64)).shape == (2, C)
        with pytest.raises(CarltError, match=r"^expert_width=0"):
            build(experts=E, expert_width=0.0)
    with torch.device("meta"):
        late = timm_model("resnext50_32x4d", C, experts=2, expert_width=0.75).layer4
    assert late(torch.empty(1, 512, 28, 28, device="meta")).shape == (1, 2 * 1536, 7, 7)
    with pytest.raises(CarltError, match=r"weights are for whole experts.*give model\.expert_width=1"):
        timm_model("test_resnet", C, experts=2, expert_width=0.5, pretrained=True)
    assert get_classifier(network).in_features == E * 48  # 24 and 48 channels in RIDE's code
    assert get_classifier(CifarResNet(100, 32, expert_width=0.75)).in_features == 64  # a single one is a plain ResNet
    with pytest.raises(CarltError, match=r"^expert_width=1\.5"):
        CifarResNet(C, 8, experts=E, expert_width=1.5)


def test_mistakes() -> None:
    for options in ({"diversity": float("nan")}, {"spread": 2.0}, {"scale": 0.0}, {"effective_number_beta": 2.0}):
        (name,) = options
        with pytest.raises(CarltError, match=f"^{name}="):
            RIDE(COUNTS, **options)
    with pytest.raises(CarltError, match=r"^RIDE needs a network with experts: give model\.experts=3"):
        RIDE(COUNTS).compute_loss(SmallCNN(C), StepInput(torch.zeros(2, 3, 8, 8), LABELS[:2], LABELS[:2]))
    with pytest.raises(CarltError, match=r"experts=2 needs a ResNet.*'test_vit' has no such layers"):
        timm_model("test_vit", C, image_size=160, experts=2)
    for network in NETWORKS.values():
        with pytest.raises(CarltError, match=r"^experts=0"):
            network(experts=0)
