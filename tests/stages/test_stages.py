"""What each second stage trains, what it leaves alone, and what it computes."""

import math
from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch
from torch import Tensor, nn

from carlt import stages
from carlt.errors import CarltError
from carlt.models import SmallCNN, timm_model
from carlt.models.classifier import extract_features, feature_dim, get_classifier
from carlt.reg import CAR
from carlt.stages.base import FrozenBackbone
from carlt.stages.disalign import CalibratedClassifier
from carlt.stages.lws import ScaledClassifier
from carlt.stages.weight_balancing import MaxNormLinear
from carlt.testing import check_stage

ALL = [getattr(stages, name) for name in stages.__all__ if name != "Stage"]
COUNTS = [50, 20, 6, 2]
C = len(COUNTS)
# Which parameters of the classifier a stage trains, and whether it begins with the trained logits.
TRAINS = {
    stages.CRT: {"weight", "bias"},
    stages.LOS: {"weight", "bias"},
    stages.LWS: {"scale"},
    stages.MiSLAS: {"scale", "linear.weight", "linear.bias"},
    stages.DisAlign: {"a", "b", "confidence.weight", "confidence.bias"},
    stages.WeightBalancing: {"weight", "bias"},
}
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "SmallCNN": lambda **options: SmallCNN(C, width=4, **options),
    "timm": lambda **options: timm_model("test_resnet", C, image_size=32, **options),
}


@pytest.fixture
def images() -> Tensor:
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 0])


def test_every_stage_is_exported_and_says_where_it_is_from() -> None:
    modules = [import_module(f"carlt.stages.{module.name}") for module in iter_modules(stages.__path__)]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    assert {each for each in found if issubclass(each, stages.Stage)} == {stages.Stage, *ALL}
    assert all("paper" in vars(stage) for stage in ALL)


@pytest.mark.parametrize("stage", ALL)
def test_every_stage(stage: type) -> None:
    check_stage(stage)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("stage", TRAINS)
@pytest.mark.parametrize("moves", [True, False])
def test_it_trains_what_it_says_and_nothing_else_moves(moves: bool, stage: type, network: str, images: Tensor) -> None:
    retrained: FrozenBackbone = stage(updates_statistics=moves).build_network(NETWORKS[network]())
    expected = {f"classifier.{name}" for name in TRAINS[stage]}
    assert {name for name, p in retrained.named_parameters() if p.requires_grad} == expected
    before = {name: value.clone() for name, value in retrained.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in retrained.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    car = CAR(COUNTS)
    for _ in range(3):
        retrained.eval()
        retrained.train()  # as a validation pass leaves it
        logits = retrained(images)
        optimizer.zero_grad()
        (nn.functional.cross_entropy(logits, LABELS) + car(logits, LABELS)).backward()
        optimizer.step()
        retrained.after_step(last_of_epoch=True)
    after = retrained.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {name for name in before if name.rpartition(".")[2].startswith(("running_", "num_batches"))}
    assert statistics
    assert moved == expected | (statistics if moves else set())


@pytest.mark.parametrize("stage", ALL)
def test_batch_normalisation_is_in_training_mode_as_in_the_released_code(stage: type) -> None:
    retrained = stage().build_network(SmallCNN(C, width=4))
    batch_norms = [m for m in retrained.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert batch_norms
    assert all(m.training for m in batch_norms)
    assert not any(m.training for m in retrained.backbone.modules() if isinstance(m, nn.Dropout | nn.Conv2d))
    assert not any(m.training for m in retrained.eval().modules())


@pytest.mark.parametrize("stage", ALL)
def test_car_s_gradient_reaches_what_trains(stage: type, images: Tensor) -> None:
    retrained = stage().build_network(SmallCNN(C, width=4))
    CAR(COUNTS)(retrained(images), LABELS).backward()
    gradients = {name: p.grad for name, p in retrained.named_parameters() if p.requires_grad}
    # DisAlign's share is of a calibration that changes nothing yet.
    assert {name for name, gradient in gradients.items() if not gradient.any()} == {
        name for name in gradients if "confidence" in name
    }
    assert all(p.grad is None for p in retrained.backbone.parameters())


def test_a_frozen_backbone_keeps_no_graph(images: Tensor) -> None:
    assert stages.CRT().build_network(SmallCNN(C, width=4)).features(images).grad_fn is None


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("scale", [None, 30.0])
@torch.no_grad()
def test_it_begins_where_the_trained_network_ended(network: str, scale: float | None, images: Tensor) -> None:
    for stage in (stages.LWS(), stages.MiSLAS(), stages.LOS(), stages.DisAlign()):
        trained = NETWORKS[network](cosine_scale=scale).eval()
        logits, seen = trained(images), extract_features(trained, images)
        retrained = stage.build_network(trained).eval()
        torch.testing.assert_close(retrained(images), logits)
        torch.testing.assert_close(retrained.features(images), seen)
        assert feature_dim(retrained) == seen.shape[1]


@pytest.mark.parametrize("stage", [stages.CRT()])
@pytest.mark.parametrize("scale", [None, 30.0])
def test_a_new_classifier_is_of_the_same_kind(stage: stages.Stage, scale: float | None) -> None:
    trained = SmallCNN(C, width=4, cosine_scale=scale)
    old = get_classifier(trained)
    new = get_classifier(stage.build_network(trained))
    assert type(new) is type(old)
    assert new.weight.shape == old.weight.shape
    assert not torch.equal(new.weight, old.weight)
    assert getattr(new, "scale", None) == scale


@torch.no_grad()
def test_scales_and_calibration_against_loops() -> None:
    linear, seen = nn.Linear(3, C), torch.randn(5, 3)
    scaled, calibrated = ScaledClassifier(linear), CalibratedClassifier(linear)
    for head in (scaled, calibrated):
        for parameter in head.parameters():
            nn.init.normal_(parameter)
    for q, f in enumerate(seen):
        confidence = 1 / (1 + math.exp(-float(calibrated.confidence.weight[0] @ f + calibrated.confidence.bias)))
        for c in range(C):
            z = float(linear.weight[c] @ f + linear.bias[c])
            assert scaled(seen)[q, c].item() == pytest.approx(float(scaled.scale[c]) * z, rel=1e-4, abs=1e-5)
            expected = (1 - confidence) * z + confidence * (float(calibrated.a[c]) * z + float(calibrated.b[c]))
            assert calibrated(seen)[q, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert CalibratedClassifier(linear).a.eq(1).all()
    assert CalibratedClassifier(linear).b.eq(0).all()


@torch.no_grad()
def test_maxnorm_is_the_nearest_point_within_the_radii() -> None:
    linear = nn.Linear(2, 3)
    linear.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.6, 0.8]]))
    head = MaxNormLinear(linear, threshold=0.25, project="step")
    torch.testing.assert_close(head.radius, torch.full((3,), 2.0))  # 1 + (5 - 1) / 4
    bias = head.bias.clone()
    head.after_step(last_of_epoch=False)
    torch.testing.assert_close(head.weight, torch.tensor([[1.2, 1.6], [0.0, 1.0], [0.6, 0.8]]))
    assert torch.equal(head.bias, bias)
    once = head.weight.clone()
    head.after_step(last_of_epoch=False)
    torch.testing.assert_close(head.weight, once)
    others = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    within = others * (2 / others.norm(dim=1, keepdim=True)).clamp(max=1)
    nearest = (once[0] - torch.tensor([3.0, 4.0])).norm()
    assert (within - torch.tensor([3.0, 4.0])).norm(dim=1).min() >= nearest - 1e-5  # rounding
    head.weight.zero_()
    head.radius.zero_()
    head.after_step(last_of_epoch=False)
    assert head.weight.eq(0).all()


@torch.no_grad()
def test_weight_balancing_projects_after_an_epoch() -> None:
    head = MaxNormLinear(nn.Linear(2, 3), threshold=0.1)
    head.weight.mul_(10)
    before = head.weight.clone()
    head.after_step(last_of_epoch=False)
    assert torch.equal(head.weight, before)
    head.after_step(last_of_epoch=True)
    assert (head.weight.norm(dim=1) <= head.radius + 1e-6).all()


def test_mislas_trains_its_classifier_slowly() -> None:
    head = stages.MiSLAS(lr_factor=0.05).build_network(SmallCNN(C, width=4)).classifier
    assert head.lr_factors() == {head.linear.weight: 0.05, head.linear.bias: 0.05}


def test_what_cannot_work_says_why() -> None:
    with pytest.raises(CarltError, match=r"lr_factor=0: expected a finite number, more than 0"):
        stages.MiSLAS(lr_factor=0)
    with pytest.raises(CarltError, match=r"project='batch': expected one of epoch, step"):
        stages.WeightBalancing(project="batch")
    with pytest.raises(CarltError, match=r"a cosine classifier has none: choose stage=crt"):
        stages.WeightBalancing().build_network(SmallCNN(C, cosine_scale=30.0))
    with pytest.raises(CarltError, match=r"threshold=2: expected"):
        stages.WeightBalancing(threshold=2)
    with pytest.raises(CarltError, match=r"Sequential does not tell features and classifier apart: .* second stage"):
        stages.CRT().build_network(nn.Sequential())
    network = SmallCNN(C)
    network.classifier = nn.Identity()
    with pytest.raises(CarltError, match=r"CRT begins with .* Linear or CosineClassifier or ExpertHeads, not Identity"):
        stages.CRT().build_network(network)
    with pytest.raises(CarltError, match=r"LWS begins with .* Linear or CosineClassifier, not ExpertHeads"):
        stages.LWS().build_network(SmallCNN(C, experts=2))


@pytest.mark.parametrize("stage", [stages.CRT])
def test_experts_have_a_new_classifier_each(stage: type[stages.Stage]) -> None:
    network = SmallCNN(C, width=4, experts=2, cosine_scale=30.0)
    old = [head.weight.clone() for head in get_classifier(network)]
    images = torch.rand(3, 3, 8, 8)
    network.eval()
    joined = extract_features(network, images)
    second = stage(updates_statistics=False).build_network(network)
    logits = second(images)
    own = [head(part) for head, part in zip(second.classifier, joined.chunk(2, 1), strict=True)]
    torch.testing.assert_close(logits, (own[0] + own[1]) / 2)
    assert [head.scale for head in second.classifier] == [30.0, 30.0]
    assert not any(torch.equal(head.weight, before) for head, before in zip(second.classifier, old, strict=True))
    logits.sum().backward()
    trained = {name for name, parameter in second.named_parameters() if parameter.grad is not None}
    assert trained == {"classifier.0.weight", "classifier.1.weight"}
